#!/bin/sh
# Two threads that use threadpoolctl's threadpool_limits for BLAS at the same time: the limit of the
# second is ignored without a word while the first has its own, and the process is left with another
# number of threads than it had before either of them. Seen with threadpoolctl 3.8.0 and NumPy 2.4.6
# (OpenBLAS 0.3.31). Needs two usable cores.
#
# Expected: the limit that was asked for, or an error or a warning; at the end the number of before.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check threadpoolctl==3.8.0 numpy==2.4.6

OPENBLAS_NUM_THREADS=2 "$folder/venv/bin/python" -W error - >"$folder/seen" <<'PYTHON'
import threading

import numpy  # noqa: F401 - it loads OpenBLAS
from threadpoolctl import threadpool_info, threadpool_limits


def threads():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


entered, leave = threading.Event(), threading.Event()


def other():
    with threadpool_limits(limits=1, user_api="blas"):
        entered.set()
        leave.wait()


print("before:", threads())
thread = threading.Thread(target=other)
thread.start()
entered.wait()
with threadpool_limits(limits=2, user_api="blas"):
    print("2 asked for beside another thread's 1:", threads())
    leave.set()
    thread.join()
print("when both have ended:", threads())
PYTHON
cat "$folder/seen"

cat >"$folder/wanted" <<'TEXT'
before: [2]
2 asked for beside another thread's 1: [1]
when both have ended: [1]
TEXT
if ! cmp -s "$folder/seen" "$folder/wanted"; then
    echo 'this has changed' >&2
    exit 1
fi
