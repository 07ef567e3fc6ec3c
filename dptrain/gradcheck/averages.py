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
from dptrain.gradcheck.reference.network import Reference, batch_norms
from dptrain.nn.network import Network, Tensor

Array = NDArray[Any]

# A value is told from others if they differ by more than so many roundings.
ROUNDINGS = 4096.0


class Moment(NamedTuple):
    """A step, with what its minibatch's formulas give.

    Attributes:
        step: of the run.
        reference: its formulas.
    """

    step: Step
    reference: Reference

    def values(self) -> Array:
        """Return what averages should move towards, flat, in the places of all."""
        before = np.asarray(self.step.before.parameters, float)
        return self.reference.gradient(before, UNITS["float64"]).total


def other_values(network: Network, moments: Sequence[Moment]) -> list[Diagnosis]:
    """Return whose values the running averages moved towards, where all of those wrong are told.

    Args:
        network: of the run.
        moments: steps, one behind the other, the last being the first that is wrong.
    """
    spans = [span for pair in batch_norms(network).values() for span in pair]
    step = moments[-1].step
    unit = UNITS[step.after.parameters.dtype.name]
    wrong: list[tuple[str, str]] = []
    for tensor in network.all_tensors():
        if (tensor.start, tensor.stop) not in spans or tensor.frozen:
            continue
        own, rate = slice(tensor.start, tensor.stop), tensor.average or 0.0
        before, after = (np.asarray(s.parameters[own], float) for s in (step.before, step.after))
        with np.errstate(all="ignore"):
            value = before + (after - before) / rate
        room = ROUNDINGS * unit * (np.abs(before) + np.abs(after)) / max(rate, unit)
        for kind, what, other in _candidates(network, tensor, moments):
            if len(other) == len(value) and (np.abs(value - other) <= room).all():
                wrong += [(kind, f"{tensor.name} {what}")] if kind else []
                break
        else:
            return []
    said = f"In step {step.number + 1} {'; '.join(words for _, words in wrong)}."
    return [Diagnosis(wrong[0][0], said, 0.0)] if wrong else []


def _candidates(
    network: Network, tensor: Tensor, moments: Sequence[Moment]
) -> Iterator[tuple[str, str, Array]]:
    """Yield what a running average could take; first, with no kind, what it should."""
    before = np.asarray(moments[-1].step.before.parameters, float)[tensor.start : tensor.stop]
    norms = list(batch_norms(network).values())
    names = {(t.start, t.stop): t.name for t in network.all_tensors()}
    at = (tensor.start, tensor.stop)
    for ago, moment in enumerate(reversed(moments)):
        values = moment.values()
        when = f" of {ago} step{'s' * (ago > 1)} before" if ago else ""
        for pair in sorted(norms, key=lambda pair: at not in pair):
            for low, high in sorted(pair, key=lambda span: span != at):
                whose = "its value" if (low, high) == at else f"the value of {names[low, high]}"
                kind = "average-swapped" if at in pair else "average-of-another"
                kind = "stale-average" if ago else "" if (low, high) == at else kind
                yield kind, f"took {whose}{when}", values[low:high]
        if not ago:
            yield "average-not-updated", "did not move", before
            yield "average-not-updated", "moved towards 0", np.zeros(len(before))
