"""Running averages of batch norm against two-pass statistics of the same minibatch.

The reference computes the mean of all rows first and then the squared distances from it, in
float64 and with a bound of rounding; the workers combine moments of shards.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison, compare, told_of
from dptrain.gradcheck.diagnosis import EXPLAINS, Diagnosis, Mistake, described, ranked, weighed
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.reference.bounded import UNITS, Bounded
from dptrain.gradcheck.reference.layers import row_forward
from dptrain.gradcheck.reference.network import Reference, batch_norms
from dptrain.gradcheck.updates.textbook import spread
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.network import Network, Tensor, layers_from

Array = NDArray[Any]

# The workers' formulas round about as often as the two passes do, but elsewhere: both errors lie
# within the bound, and the combination of shards' moments takes as many roundings again.
FACTOR = 4.0


# How running averages move in a step: as they should; not at all; keeping the part that they should
# take; towards variances that are divided by n, not by n - 1, or those of each shard by itself.
Moving = Literal["rightly", "not at all", "swapped", "biased", "apart"]

MISTAKES: Sequence[Mistake[Moving]] = (
    Mistake("average-not-updated", "Running averages are not updated.", "not at all"),
    Mistake("average-momentum-swapped",
            "Running averages keep what they should take: momentum and 1 - momentum swapped.",
            "swapped"),
    Mistake("running-variance",
            "The running variance takes the biased one: divided by n, not by n - 1.", "biased"),
    Mistake("batchnorm-local",
            "Every shard has statistics of its own, and their averages are taken.", "apart"),
)  # fmt: skip


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
    tensors = _averages(job)
    if not isinstance(job.network, Network) or not tensors:
        return []
    seen = local or Local(job)
    name = "running averages = two passes over the minibatch"
    found = []
    for step in steps:
        wanted = _moved(seen, step)
        at, after = f"{where}, step {step.number + 1}", np.asarray(step.after.parameters, float)
        found.append(
            compare(name, "statistics", at, tensors, after, wanted.value, np.asarray(wanted.error))
        )
    if all(each.verdict is not Verdict.FAIL for each in found):
        return found
    return told_of(found, note=described(diagnose_statistics(job, steps, local=seen)))


def diagnose_statistics(
    job: Job, steps: Sequence[Step], *, local: Local | None = None
) -> list[Diagnosis]:
    """Return what could be wrong with running averages, the best explanation first.

    Empty where nothing deviates, or nothing can be compared.
    """
    if not isinstance(job.network, Network):
        return []
    seen = local or Local(job)

    def beyond(moving: Moving) -> float:
        return sum(float(each.sum()) for step in steps for each in _beyond(seen, step, moving))

    nothing = beyond("rightly")
    if not nothing:
        return []
    found = ranked(weighed(MISTAKES, lambda moving: beyond(moving) / nothing))
    likely = [each for each in found if each.residual <= EXPLAINS]
    if likely:
        return likely
    names, number = _first_wrong(seen, steps)
    sentence = f"In step {number + 1} running averages do not move towards those of "
    sentence += f"the minibatch: {names}."
    return [Diagnosis("running-average", sentence, 1.0)]


def _first_wrong(local: Local, steps: Sequence[Step]) -> tuple[str, int]:
    """Return which averages are wrong first, and in which step."""
    for step in steps:
        pairs = zip(_averages(local.job), _beyond(local, step, "rightly"), strict=True)
        if names := [tensor.name for tensor, left in pairs if left.any()]:
            return ", ".join(names), step.number
    raise ValueError("no running average is wrong")


def _beyond(local: Local, step: Step, moving: Moving) -> Iterator[Array]:
    """Yield by how much each average is farther from what is predicted than rounding explains."""
    wanted = _moved(local, step, moving)
    difference = np.abs(np.asarray(step.after.parameters, float) - wanted.value)
    left = np.where(difference <= np.asarray(wanted.error), 0, difference)
    for tensor in _averages(local.job):
        yield left[tensor.start : tensor.stop]


def _averages(job: Job) -> list[Tensor]:
    return [t for t in job.network.all_tensors() if t.average and not t.frozen]


def _moved(local: Local, step: Step, moving: Moving = "rightly") -> Bounded:
    """Return all parameters, with averages moved towards the minibatch's values."""
    job, reference = local.job, local.reference(step.number)
    assert reference is not None
    before = np.asarray(step.before.parameters, float)
    unit = UNITS[job.dtype.name]
    rates = spread(job.network.all_tensors(), job.network.size, lambda t: t.average or 0.0)
    if moving == "swapped":
        rates = np.where(rates > 0, 1 - rates, 0)
    if moving == "apart":
        network = reference.network
        layers = layers_from(_apart(network.description()))
        ghost = Network(network.input_shape, layers, job.experiment.freeze or ())
        reference = Reference(ghost, reference.loss, reference.batch)
    statistics = reference.gradient(before, unit)
    total = statistics.total * (_bias(reference, before) if moving == "biased" else 1.0)
    if moving == "not at all":
        return Bounded(before, np.zeros(before.shape), unit)
    value = before + rates * (total - before)
    size = np.abs(before) + np.abs(total) + np.abs(value)
    bound = np.where(rates > 0, statistics.bound, 0.0)  # elsewhere it may be infinite
    return Bounded(value, FACTOR * (rates * bound + unit * size), unit)


def _bias(reference: Reference, parameters: Array) -> Array:
    """Return what makes unbiased variances biased, and 1 elsewhere; for statistics of all rows."""
    setting, leaves, x = reference.begin(parameters)
    row_forward(reference.network.row, x, leaves, setting)
    found = np.ones(len(parameters))
    for place, (_, (start, stop)) in batch_norms(reference.network).items():
        shares = setting.statistics.get(place, [])
        if len(shares) == 1:
            count = shares[0][3]
            found[start:stop] = (count - 1) / max(count, 1)
    return found


def _apart(description: Any) -> Any:
    """Return a description of layers whose batch norms have statistics of each shard."""
    if isinstance(description, list):
        return [_apart(each) for each in description]
    if not isinstance(description, dict):
        return description
    found = {key: _apart(each) for key, each in description.items()}
    return found | {"sync": False} if found.get("layer") == "batchnorm" else found
