"""How many files may be open: enough for a run, or a message before it begins.

ZeroMQ ends the whole process, without another word, where it finds too few.
"""

import contextlib
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
