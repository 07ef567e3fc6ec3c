"""A program that tells what it finds when it begins, and ends with the code that it is given."""

import json
import os
import sys
from pathlib import Path

from numpy import random


def main() -> int:
    """Tell, on standard output, once there is a line on standard input."""
    line = sys.stdin.buffer.readline().decode()
    code, *descriptors = map(int, sys.argv[1:])
    found = {
        "line": line,
        "parent": os.getppid(),
        "leads its session": os.getsid(0) == os.getpid(),
        "read": [os.pread(each, 100, 0).decode() for each in descriptors],
        "open": sorted(int(each.name) for each in Path("/proc/self/fd").iterdir()),
        "threads": os.environ["OPENBLAS_NUM_THREADS"],
        "hash": hash("dptrain"),
        "drawn": random.random(),
    }
    sys.stdout.write(json.dumps(found))
    sys.stderr.write("\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
