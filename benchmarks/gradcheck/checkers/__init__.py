"""The checkers that are compared, a library in each file."""
