def plot() -> int:
    """plot."""
    return 0
