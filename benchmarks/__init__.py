"""Measurements of dptrain beside its peers; never part of the tests."""
