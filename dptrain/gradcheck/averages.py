"""What running averages moved towards, and whose value that is.

An average keeps a part of itself and takes the rest from the minibatch; so what it took can be
told from where it stands before and after a step. It is looked for among all that a step computes
for every batch norm, now and before.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.layers import row_forward
from dptrain.gradcheck.reference.network import Reference, batch_norms
from dptrain.nn.network import Network, Tensor

Array = NDArray[Any]

# A value is told from others if they differ by more than so many roundings.
ROUNDINGS = 4096.0
KIND = "running-average"
# The likeliest kinds of what is taken in place of the right value, by what it is.
STALE, OTHER, SWAPPED = "stale-average", "average-of-another", "average-swapped"


class Moment(NamedTuple):
    """A step, with what its minibatch's formulas give.

    Attributes:
        step: of the run.
        reference: its formulas.
    """

    step: Step
    reference: Reference


def other_values(network: Network, moments: Sequence[Moment]) -> list[Diagnosis]:
    """Return whose values the running averages moved towards, where all of those wrong are told.

    Args:
        network: of the run.
        moments: steps, one behind the other, the last being the first that is wrong.
    """
    spans = {at for pair in batch_norms(network).values() for at in pair}
    own = [t for t in network.all_tensors() if (t.start, t.stop) in spans and not t.frozen]
    said: dict[str, str] = {}
    kinds = []
    for tensor in own:
        found = _taken(network, tensor, moments)
        if found is None:
            return []
        kind, what = found
        if kind:
            said[tensor.name] = what
            kinds.append(kind)
    if not said:
        return []
    words = [f"{name} {what}" for name, what in said.items()]
    number = moments[-1].step.number + 1
    return [Diagnosis(kinds[0], f"In step {number} {'; '.join(words)}.", 0.0)]


def _taken(network: Network, tensor: Tensor, moments: Sequence[Moment]) -> tuple[str, str] | None:
    """Return what a running average took; None where nothing that is known."""
    step = moments[-1].step
    own, rate = slice(tensor.start, tensor.stop), tensor.average or 0.0
    before, after = (np.asarray(s.parameters[own], float) for s in (step.before, step.after))
    unit = UNITS[step.after.parameters.dtype.name]
    room = ROUNDINGS * unit * (np.abs(before) + np.abs(after)) / max(rate, unit)
    with np.errstate(all="ignore"):
        value = before + (after - before) / rate
    for kind, what, other in _candidates(network, tensor, moments, before):
        if (
            len(other) == len(value)
            and (np.abs(value - other) <= room + unit * np.abs(other)).all()
        ):
            return kind, what
    return None


def _candidates(
    network: Network, tensor: Tensor, moments: Sequence[Moment], before: Array
) -> Iterator[tuple[str, str, Array]]:
    """Yield what a running average could take; first, with no kind, what it should."""
    norms = batch_norms(network)
    names = {(t.start, t.stop): t.name for t in network.all_tensors()}
    at = (tensor.start, tensor.stop)
    now = _values(moments[-1])
    yield "", "", now[at[0] : at[1]]
    yield "average-not-updated", "did not move", before
    yield "average-not-updated", "moved towards 0", np.zeros(len(before))
    for pair in norms.values():
        for span in pair:
            what = f"took the value of {names[span]}"
            kind = SWAPPED if at in pair else OTHER
            yield kind, what, now[span[0] : span[1]]
    for back, moment in enumerate(reversed(moments[:-1]), 1):
        old = _values(moment)
        ago = "the step before" if back == 1 else f"{back} steps before"
        for pair in norms.values():
            for span in pair:
                whose = "its value" if span == at else f"the value of {names[span]}"
                yield STALE, f"took {whose} of {ago}", old[span[0] : span[1]]
    parts = _apart(moments[-1])
    for place, pair in norms.items():
        for i, span in enumerate(pair):
            for name, mean_and_variance in parts.get(place, {}).items():
                if span == at:
                    yield KIND, f"took {name}", mean_and_variance[i]
    yield from _trained(network, moments[-1])


def _trained(network: Network, moment: Moment) -> Iterator[tuple[str, str, Array]]:
    """Yield gradients, and weights, that stand near by."""
    before = np.asarray(moment.step.before.parameters, float)
    gradient = moment.reference.gradient(before, UNITS["float64"]).total
    for other in network.all_tensors():
        own = slice(other.start, other.stop)
        if other.trained and len(other.shape) == 1:
            yield OTHER, f"took the gradient of {other.name}", gradient[own]
        yield OTHER, f"took {other.name} itself", before[own].reshape(-1)


def _values(moment: Moment) -> Array:
    """Return what averages should move towards, flat, in the places of all."""
    before = np.asarray(moment.step.before.parameters, float)
    return moment.reference.gradient(before, UNITS["float64"]).total


def _apart(moment: Moment) -> dict[tuple[int, ...], dict[str, tuple[Array, Array]]]:
    """Return statistics that are not quite right, by the place of the batch norm and their name."""
    before = np.asarray(moment.step.before.parameters, float)
    found: dict[tuple[int, ...], dict[str, tuple[Array, Array]]] = {}
    for place, shares in _statistics(moment.reference, before).items():
        named: dict[str, tuple[Array, Array]] = {}
        for _, mean, variance, count in shares:
            m, v = (np.asarray(each.value, float) for each in (mean, variance))
            named["the biased value, divided by n, not by n - 1"] = m, v
            named["the sum of the squares, not divided"] = m, v * count
            named["the standard deviation, not its square"] = m, np.sqrt(v)
            named["the mean of the squares, the mean not subtracted"] = m, v + m * m
        found[place] = named if len(shares) == 1 else {}
    return found


def _statistics(reference: Reference, parameters: Array) -> dict[tuple[int, ...], list[Any]]:
    """Return the minibatch's statistics of every batch norm, by its place."""
    setting, leaves, x = reference.begin(parameters)
    row_forward(reference.network.row, x, leaves, setting)
    return setting.statistics
