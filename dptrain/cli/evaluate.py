def evaluate() -> int:
    """evaluate."""
    return 0
