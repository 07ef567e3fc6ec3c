"""Which cores a program runs on, and with how many threads.

Scheduled freely, two processes of two cores now and then share one of them for a while; bound, the
measurements repeat. Where the system cannot bind (macOS), nothing is bound.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence

_CAN_BIND = hasattr(os, "sched_setaffinity")

_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def threads(count: int) -> dict[str, str]:
    """Return the environment of a program whose BLAS is to use so many threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(count))


def available() -> list[int]:
    """Return the cores that this process may run on, in order."""
    if _CAN_BIND:
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def bind(rank: int) -> None:
    """Bind this process to the core of a rank; ranks beyond the last core begin anew."""
    if _CAN_BIND:
        cores = available()
        os.sched_setaffinity(0, {cores[rank % len(cores)]})


@contextlib.contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Start processes on some cores: they inherit where their parent may run."""
    if not _CAN_BIND:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
