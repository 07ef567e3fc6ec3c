"""Runs as ``dptrain train`` makes them, stopped and resumed, against the same steps in one go."""
