"""How much memory this process can still take."""

import resource
from collections.abc import Iterator

import psutil

from dptrain.machine.groups import group_number, groups

# as of memory.stat; version 1 does not tell of slabs
RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")


def available_memory() -> int:
    """Return how many bytes: of the machine, of its control groups, and of its address space."""
    return max(0, min([psutil.virtual_memory().available, *left_in_groups(), *_left_to_address()]))


def left_in_groups() -> Iterator[int]:
    """Yield what the limits of control groups leave.

    What files hold and what the kernel keeps at hand (slabs) count as used there; but it gives them
    up before it refuses anything.
    """
    for version, folder in groups("memory"):
        if version == 2:
            used, prefix = group_number(folder, "memory.current"), ""
            limits = [group_number(folder, f"memory.{name}") for name in ("max", "high")]
        else:
            used, prefix = group_number(folder, "memory.usage_in_bytes"), "total_"
            limits = [group_number(folder, "memory.limit_in_bytes")]
        held = (group_number(folder, "memory.stat", prefix + name) or 0 for name in RECLAIMABLE)
        reclaimable = sum(held)
        if used is not None:
            yield from (each - used + reclaimable for each in limits if each is not None)


def _left_to_address() -> Iterator[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms
