def predict() -> int:
    """predict."""
    return 0
