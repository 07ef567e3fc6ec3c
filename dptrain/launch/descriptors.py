"""What ZeroMQ needs of the system: enough open files, and eventfds, or a message before the run.

It ends the whole process, without another word, where it has too few of the former or none of the
latter.
"""

import contextlib
import os
import resource
from pathlib import Path

from dptrain.errors import ResourceError

# A pipe, a pidfd, an eventfd, a connection, and one more while it is started.
PER_WORKER = 5
# ZeroMQ's own, files of the run, and whatever is imported on the way.
BESIDES = 40


def allow_descriptors(workers: int) -> None:
    """See to it that this process may open as many files as the coordinator of workers needs.

    Raises:
        ResourceError: it may not.
    """
    open_now = 3
    with contextlib.suppress(OSError):  # elsewhere than on Linux
        open_now = len(list(Path("/proc/self/fd").iterdir()))
    needed = open_now + PER_WORKER * workers + BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:  # the soft limit is ours to raise
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise ResourceError(
        f"a run with {workers} workers may have up to {needed} files open, but only {hard} are "
        f"allowed; raise the limit with ulimit -n {needed}, or use fewer --workers (1 needs none)"
    )


def eventfd_refusal() -> str:
    """Return why there are no eventfds here, or an empty string where there are."""
    try:
        os.close(os.eventfd(0))
    except OSError as error:
        return f"eventfd: {os.strerror(error.errno or 0).lower()}"
    except AttributeError:  # another system, on which ZeroMQ does without
        pass
    return ""


def demand_eventfd() -> None:
    """Raise `ResourceError` where there are no eventfds."""
    if why := eventfd_refusal():
        raise ResourceError(f"processes cannot ring each other here ({why}); use --workers 1")
