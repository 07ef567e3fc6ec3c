"""How many cores this process may use: the one place that counts them."""

import contextlib
import os
from collections.abc import Iterator

from dptrain.machine.groups import group_number, groups


def usable_cores() -> int:
    """Return how many processes can compute at a time.

    No more than the cores that this process may run on, and no more than the whole ones in its
    share of their time: ranks that meet in every step are as slow as the one that has to pause.
    """
    return max(1, min([allowed_cores(), *map(int, quotas())]))


def allowed_cores() -> int:
    """Return on how many cores this process may run, by its affinity."""
    with contextlib.suppress(AttributeError, OSError):  # not every system knows of any
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quotas() -> Iterator[float]:
    """Yield how much of the cores' time the control groups allow, in cores."""
    for version, folder in groups("cpu"):
        if version == 2:
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                quota, period = map(int, (folder / "cpu.max").read_text().split())
                yield quota / period
        else:
            allowed = group_number(folder, "cpu.cfs_quota_us") or -1
            if allowed > 0 and (period := group_number(folder, "cpu.cfs_period_us") or 0):
                yield allowed / period


def crowding(workers: int) -> str:
    """Return what to say where workers outnumber the cores; else an empty string."""
    cores = usable_cores()
    if workers <= cores:
        return ""
    which = f"{cores} usable cores" if cores > 1 else "one usable core"
    return (
        f"{workers} workers share {which}: they take turns, and gain nothing; "
        f"--workers {cores} is as fast or faster"
    )


def can_pin() -> bool:
    """Return whether a process may be bound to cores here; not every container allows it."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return False
    return True
