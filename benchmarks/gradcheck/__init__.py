"""Gradient checkers on deliberate bugs; `python -m benchmarks.gradcheck`."""
