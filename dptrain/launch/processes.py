"""How many worker processes there is memory for, before the first of them is started."""

from dptrain.errors import ResourceError
from dptrain.machine.cores import usable_cores
from dptrain.machine.memory import available_memory

# What a worker takes for Python and NumPy alone and shares with no other; measured: 26 MB.
LEAST_BYTES = 20 << 20
# So many always fit; asking how much memory there is takes milliseconds.
_FEW = 16


def allow_processes(workers: int) -> None:
    """Raise `ResourceError` where so many processes do not fit, whatever they compute."""
    if workers <= _FEW:
        return
    needed, free = workers * LEAST_BYTES, available_memory()
    if needed > free:
        cores = usable_cores()
        raise ResourceError(
            f"{workers:,} workers take {needed >> 20:,} MB of memory or more before they compute "
            f"anything, but {free >> 20:,} MB are free; use --workers {cores}, as many as there "
            "are usable cores"
        )
