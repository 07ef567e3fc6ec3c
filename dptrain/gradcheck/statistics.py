"""Running averages of batch norm against two-pass statistics of the same minibatch.

The reference computes the mean of all rows first and then the squared distances from it, in
float64 and with a bound of rounding; the workers combine moments of shards.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.reference.network import batch_norms
from dptrain.gradcheck.textbook import UNITS, spread
from dptrain.nn.network import Network

Array = NDArray[Any]

# The workers' formulas round about as often as the two passes do, but elsewhere: both errors lie
# within the bound, and the combination of shards' moments takes as many roundings again.
FACTOR = 4.0


def check_statistics(
    job: Job, steps: Sequence[Step], where: str, *, local: Local | None = None
) -> list[Comparison]:
    """Compare the running mean and variance of every batch norm after each step.

    Empty where the network has no batch norm that is trained, or is the user's own.

    Args:
        job: settled.
        steps: of a run of it.
        where: as of `Comparison`.
        local: the job in this process.
    """
    network = job.network
    if not isinstance(network, Network):
        return []
    spans = {span for pair in batch_norms(network).values() for span in pair}
    tensors = [t for t in network.all_tensors() if (t.start, t.stop) in spans and not t.frozen]
    if not tensors:
        return []
    rates = spread(network.all_tensors(), network.size, lambda t: t.average or 0.0)
    found = []
    for step in steps:
        wanted, bound = _wanted(local or Local(job), step, rates)
        name = f"running averages after step {step.number + 1} = two passes over the minibatch"
        after = np.asarray(step.after.parameters, float)
        found.append(compare(name, "statistics", where, tensors, after, wanted, bound))
    return found


def _wanted(local: Local, step: Step, rates: Array) -> tuple[Array, Array]:
    """Return all parameters with averages moved towards the minibatch's values, and bounds."""
    reference = local.reference(step.number)
    assert reference is not None
    before = np.asarray(step.before.parameters, float)
    unit = UNITS[local.job.dtype.name]
    statistics = reference.gradient(before, unit)
    value = before + rates * (statistics.total - before)
    size = np.abs(before) + np.abs(statistics.total) + np.abs(value)
    return value, FACTOR * (rates * statistics.bound + unit * size)
