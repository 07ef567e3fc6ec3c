"""Arrays in pickle files, read and written without the pickle module."""

PICKLES = (".pkl", ".pickle")
