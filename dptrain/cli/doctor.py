def doctor() -> int:
    """doctor."""
    return 0
