def worker() -> int:
    """worker."""
    return 0
