"""The same jobs, written for other libraries. Each file is a program that prints one JSON line."""
