"""Which rows a step has, and what they hold: against the files of the data, read a second time.

Everything else that is checked takes its rows from the same code as the run, so rows that are wrong
would be wrong alike on both sides.
"""
