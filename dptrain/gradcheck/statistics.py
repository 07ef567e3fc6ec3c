"""Running averages of batch norm against two-pass statistics of the same minibatch.

The reference computes the mean of all rows first and then the squared distances from it, in
float64 and with a bound of rounding; the workers combine moments of shards.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison, compare, told_of
from dptrain.gradcheck.diagnosis import EXPLAINS, Diagnosis, described, ranked
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.layers import row_forward
from dptrain.gradcheck.reference.network import Reference, batch_norms
from dptrain.gradcheck.updates.textbook import spread
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.network import Network, Tensor, layers_from

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
    seen = local or Local(job)
    found = [_compared(seen, step, where, tensors) for step in steps]
    if all(each.verdict is not Verdict.FAIL for each in found):
        return found
    note = described(diagnose_statistics(job, steps, local=seen))
    return told_of(found, note=note)


def diagnose_statistics(
    job: Job, steps: Sequence[Step], *, local: Local | None = None
) -> list[Diagnosis]:
    """Return what could be wrong with running averages, the best explanation first.

    Empty where nothing deviates, or nothing can be compared.
    """
    if not isinstance(job.network, Network) or not steps:
        return []
    seen = local or Local(job)
    averages = [t for t in job.network.all_tensors() if t.average and not t.frozen]
    own = np.concatenate([np.arange(t.start, t.stop) for t in averages] or [np.empty(0, int)])
    left: dict[tuple[str, str], float] = {}
    beyond, first = 0.0, 0
    for i, step in enumerate(steps):
        if not beyond:
            first = i
        after = np.asarray(step.after.parameters, float)
        right = _wanted(seen, step)
        beyond += _beyond(after, *right, own)
        for kind, sentence, wanted in _mistakes(seen, step):
            of = (kind, sentence)
            left[of] = left.get(of, 0.0) + _beyond(after, *wanted, own)
    if not beyond:
        return []
    found = ranked(Diagnosis(*of, rest / beyond) for of, rest in left.items())
    likely = [each for each in found if each.residual <= EXPLAINS]
    return likely or [_unexplained(seen, steps[first], own)]


def _unexplained(local: Local, step: Step, own: Array) -> Diagnosis:
    """Say which running averages are wrong, and since when."""
    after = np.asarray(step.after.parameters, float)
    wanted, bound = _wanted(local, step)
    off = np.zeros(len(after), bool)
    off[own] = ~(np.abs(after - wanted)[own] <= bound[own])
    names = [t.name for t in local.job.network.all_tensors() if off[t.start : t.stop].any()]
    sentence = (
        f"In step {step.number + 1} running averages do not move towards those of the minibatch: "
        f"{', '.join(names)}."
    )
    return Diagnosis("running-average", sentence, 1.0)


def _compared(local: Local, step: Step, where: str, tensors: Sequence[Tensor]) -> Comparison:
    wanted, bound = _wanted(local, step)
    name = "running averages = two passes over the minibatch"
    after = np.asarray(step.after.parameters, float)
    at = f"{where}, step {step.number + 1}"
    return compare(name, "statistics", at, tensors, after, wanted, bound)


def _wanted(local: Local, step: Step) -> tuple[Array, Array]:
    """Return all parameters with averages moved towards the minibatch's values, and bounds."""
    reference = local.reference(step.number)
    assert reference is not None
    return _moved(local.job, step, reference)


def _moved(
    job: Job, step: Step, reference: Reference, factor: Array | float = 1.0, *, swap: bool = False
) -> tuple[Array, Array]:
    before = np.asarray(step.before.parameters, float)
    unit = UNITS[job.dtype.name]
    rates = spread(job.network.all_tensors(), job.network.size, lambda t: t.average or 0.0)
    rates = np.where(rates > 0, 1 - rates, 0) if swap else rates
    statistics = reference.gradient(before, unit)
    total = statistics.total * factor
    value = before + rates * (total - before)
    size = np.abs(before) + np.abs(total) + np.abs(value)
    bound = np.where(rates > 0, statistics.bound, 0.0)  # elsewhere it may be infinite
    return value, FACTOR * (rates * bound + unit * size)


def _mistakes(local: Local, step: Step) -> Iterator[tuple[str, str, tuple[Array, Array]]]:
    """Yield kinds of mistakes, with what stands after the step and bounds."""
    job, reference = local.job, local.reference(step.number)
    assert reference is not None
    assert isinstance(job.network, Network)
    before = np.asarray(step.before.parameters, float)
    sentence = "Running averages are not updated."
    yield "average-not-updated", sentence, (before, np.zeros(before.shape))
    sentence = "Running averages keep what they should take: momentum and 1 - momentum swapped."
    yield "average-momentum-swapped", sentence, _moved(job, step, reference, swap=True)
    sentence = "The running variance takes the biased one: divided by n, not by n - 1."
    factor = _biased(reference, before)
    yield "running-variance", sentence, _moved(job, step, reference, factor)
    layers = layers_from(_apart(job.network.description()))
    ghost = Network(job.network.input_shape, layers, job.experiment.freeze or ())
    apart = Reference(ghost, reference.loss, reference.batch)
    sentence = "Every shard has statistics of its own, and their averages are taken."
    yield "batchnorm-local", sentence, _moved(job, step, apart)


def _biased(reference: Reference, parameters: Array) -> Array:
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


def _beyond(found: Array, wanted: Array, bound: Array, own: Array) -> float:
    difference = np.abs(found - wanted)[own]
    return float(np.sum(np.where(difference <= bound[own], 0, difference)))
