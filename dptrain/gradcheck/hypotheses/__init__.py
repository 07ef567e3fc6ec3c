"""Kinds of bugs, each with the gradient that it would lead to."""
