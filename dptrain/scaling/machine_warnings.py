"""What on this machine could spoil a measurement."""

import os
from collections.abc import Sequence

import psutil

LOOK_SECONDS = 0.3
# Of one core. Below this a machine at rest does what machines at rest do.
NOTICEABLE = 0.25


def warnings_about(workers: Sequence[int], cores: int) -> list[str]:
    """Return what a reader of the measurements should know: too few cores, other busy processes."""
    found = []
    if crowded := [count for count in workers if count > cores]:
        counts = ", ".join(map(str, crowded))
        found.append(f"{counts} workers share {cores} cores: they take turns, and gain nothing")
    if busy := busy_processes():
        names = ", ".join(f"{name} (pid {pid}, {share:.0%} of a core)" for name, pid, share in busy)
        found.append(f"other processes are loading this machine: {names}; the figures will suffer")
    return found


def busy_processes() -> list[tuple[str, int, float]]:
    """Return name, pid and share of a core of the busiest other processes, the busiest first."""
    others = []
    for process in psutil.process_iter():
        try:
            process.cpu_percent()
        except psutil.Error:
            continue
        if process.pid != os.getpid():
            others.append(process)
    psutil.cpu_percent(LOOK_SECONDS)  # waits
    found = []
    for process in others:
        try:
            share = process.cpu_percent() / 100
            if share > NOTICEABLE:
                found.append((process.name(), process.pid, share))
        except psutil.Error:
            continue
    return sorted(found, key=lambda each: -each[2])[:3]
