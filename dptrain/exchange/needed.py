"""Is there enough memory for a run? Asked of sizes alone, before anything is drawn or reserved.

What is counted is surely needed: vectors as long as the parameters, and for every row of a
minibatch, and of a piece of an evaluation, what layers with parameters read and put out.
"""

import math
from typing import NamedTuple

from dptrain.errors import ResourceError
from dptrain.experiment.execution import Execution, exchange_of
from dptrain.experiment.job import Job
from dptrain.machine.memory import available_memory
from dptrain.nn.network import Network


class Needed(NamedTuple):
    """Bytes that a run needs at the least, all its processes together.

    Attributes:
        state: weights and the optimizer's state, with the copies that the exchange keeps.
        gradients: of the shards.
        rows: that are computed with.
    """

    state: int
    gradients: int
    rows: int


def memory_needed(job: Job, execution: Execution) -> Needed:
    """Return what a run needs; of a network of the user's own nothing is known of its rows."""
    exchange, workers = exchange_of(execution), execution.world_size
    vector = job.network.size * job.dtype.itemsize
    state = vector * (1 + len(job.updater.rule.slots))
    gradients = vector * job.shards
    if exchange.memory:  # two versions, beside what the run begins with
        state = 3 * state
    elif exchange.workers:  # and of the weights every worker has a copy
        state, gradients = 2 * state + workers * vector, gradients + vector
    return Needed(state, gradients, _rows(job, workers))


def check_memory(job: Job, execution: Execution) -> None:
    """Raise ResourceError where a run needs more memory than there is."""
    needed, free = memory_needed(job, execution), available_memory()
    if sum(needed) <= free:
        return
    parts = {
        "weights and the optimizer's state": (needed.state, "a smaller network"),
        "gradients": (needed.gradients, "fewer --shards"),
        "the rows of a minibatch and of an evaluation": (needed.rows, "a smaller --batch-size"),
    }
    told = ", ".join(f"{_text(size)} for {what}" for what, (size, _) in parts.items())
    # what may help is what takes most
    ways = [way for size, way in sorted(parts.values(), reverse=True) if 4 * size > sum(needed)]
    raise ResourceError(
        f"the run needs {_text(sum(needed))} of memory or more, but {_text(free)} are free: its "
        f"network has {job.network.size:,} parameters, which takes {told}, with {job.shards:,} "
        f"shards, minibatches of {job.batch_size:,} rows and {execution.world_size} "
        f"worker{'s' * (execution.world_size > 1)}; use {', '.join(ways)}, or a machine with more "
        "memory"
    )


def _rows(job: Job, workers: int) -> int:
    network = job.network
    if not isinstance(network, Network):
        return 0
    numbers = math.prod(network.input_shape)
    numbers += sum(
        math.prod(after)
        for own, after in zip(network.tensors, network.shapes[1:], strict=True)
        if own
    )
    evaluators = min(workers, job.pieces("train"))
    at_once = min(job.evaluation_rows, len(job.split("train")))
    return numbers * job.dtype.itemsize * (job.batch_size + evaluators * at_once)


def _text(size: int) -> str:
    return f"{-(-size >> 20):,} MB"
