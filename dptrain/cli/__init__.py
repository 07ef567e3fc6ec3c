"""The command line: each verb parses, calls and prints, and has a file of its own.

Attributes:
    BEGAN: when this process began to load dptrain, by `time.perf_counter`; the interpreter's own
        start, some 15 ms, came before.
"""

import time

BEGAN = time.perf_counter()
