"""Elements spread over the cores: a forked process computes some of them, and is gone.

The processes share all that is in memory, so nothing need be sent to them. Forked, they have only
the thread that computes. Whoever fails, or takes much longer than this process for as many elements
(code that waits for threads it no longer has), is ended, and its elements are computed here.
"""

import os
import select
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Fewer elements are computed before a process has begun.
FEWEST = 500
# How many times as long as this process another may take, and how many seconds beyond.
PATIENCE, MORE = 4, 5.0


class _Child(NamedTuple):
    pid: int
    pipe: int


def spread(
    compute: Callable[[Sequence[int]], Array | None], indices: Sequence[int], cores: int
) -> Array | None:
    """Return ``compute(indices)``, computed by several processes.

    Args:
        compute: returns ``(len(indices), k)`` in float64 with the same k for all indices, or None
            where it cannot; it may not depend on the order or number of the indices.
        indices: what to compute.
        cores: how many processes, with this one.
    """
    count = min(cores, len(indices) // FEWEST)
    if count < 2:
        return compute(indices)
    parts = [indices[k::count] for k in range(count)]
    children = [_fork(compute, part) for part in parts[1:]]
    began = time.monotonic()
    found = [compute(parts[0])]
    deadline = time.monotonic() + PATIENCE * (time.monotonic() - began) + MORE
    for child, part in zip(children, parts[1:], strict=True):
        sent = _received(child, deadline)
        whole_rows = sent and len(sent) % (8 * len(part)) == 0
        found.append(np.frombuffer(sent).reshape(len(part), -1) if whole_rows else compute(part))
    if any(each is None for each in found):
        return None
    whole = np.empty((len(indices), found[0].shape[1]))  # type: ignore[union-attr]
    for k, each in enumerate(found):
        whole[k::count] = each
    return whole


def _fork(compute: Callable[[Sequence[int]], Array | None], part: Sequence[int]) -> _Child:
    read, write = os.pipe()
    with warnings.catch_warnings():
        # of threads that the new process lacks; see the module
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(write)
        return _Child(pid, read)
    try:
        found = compute(part)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(b"" if found is None else np.ascontiguousarray(found, float).tobytes())
    finally:
        os._exit(0)


def _received(child: _Child, deadline: float) -> bytes:
    """Return what a process has sent, and end it; nothing where it has not ended in time."""
    pieces = []
    while select.select([child.pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(child.pipe, 1 << 20)
        if not piece:
            break
        pieces.append(piece)
    else:
        os.kill(child.pid, signal.SIGKILL)
        pieces = []
    os.close(child.pipe)
    os.waitpid(child.pid, 0)
    return b"".join(pieces)
