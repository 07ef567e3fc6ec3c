"""Whether the layers of a network hold the arrays of its ``params``, or copies of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import OwnCodeError
from dptrain.own.model import OwnModel

Array = NDArray[Any]

# A gradient this much smaller than the largest may be rounding.
SMALL = 1e-6


class Calls(NamedTuple):
    """What a network computes of some rows, the same at every call with the same weights.

    Attributes:
        outputs: of ``predict``; None where it has none, or none in floats: class numbers stay
            the same while weights move.
        loss: the mean.
        gradient: by parameter.
    """

    outputs: Callable[[], Array] | None
    loss: Callable[[], float]
    gradient: Callable[[], Sequence[Array]]


class Held(NamedTuple):
    """What no move of a tensor has changed, though the gradient by it is not zero.

    Attributes:
        slopes: tensors whose gradient is not zero.
        idle: those of which neither loss nor outputs depend.
        lost: those of the idle on which the gradient does not depend either.
        aside: those on which the outputs alone do not depend.
        certain: whether there are outputs, in which the smallest change is seen.
    """

    slopes: list[str]
    idle: list[str]
    lost: list[str]
    aside: list[str]
    certain: bool


def held(model: OwnModel, calls: Calls, gradients: Sequence[Array]) -> Held:
    """Move tensor after tensor, this way and that, until something changes.

    One move is not enough: softmax does not see the same number added to all logits, units that
    are dead or a loss that is at its bound see small moves as little.

    Args:
        model: whose arrays are moved, and put back.
        calls: to it.
        gradients: in the order of ``params``, finite.
    """
    sizes = [float(np.abs(each).max()) for each in gradients]
    slopes = [
        name
        for name, size in zip(model.params, sizes, strict=True)
        if size > SMALL * max(sizes) and size > 0
    ]
    start = model.tensors()
    model.load(start)
    same = _answers(calls)
    changed = {
        name: _changed(model, start, i, gradients[i], calls, same)
        for i, name in enumerate(model.params)
        if name in slopes
    }
    idle = [name for name, by in changed.items() if not by & {"outputs", "loss"}]
    lost = [name for name in idle if not changed[name]]
    aside = [name for name, by in changed.items() if calls.outputs and "outputs" not in by]
    return Held(slopes, idle, lost, aside, calls.outputs is not None)


def _changed(
    model: OwnModel,
    start: list[Array],
    place: int,
    gradient: Array,
    calls: Calls,
    here: dict[str, Any],
) -> set[str]:
    """Return what changes with a tensor: of outputs, loss and gradient, at best the outputs."""
    count = len(model.params)
    best = next(iter(here))
    found: set[str] = set()
    try:
        for tensors in _points(start, count):
            model.load(tensors)
            same = here if tensors is start else _answers(calls)
            for moved in _moves(tensors[place], gradient):
                model.load([*tensors[:place], moved, *tensors[place + 1 :]])
                for what, answer in _asked(calls):
                    if not _equal(answer(), same[what]):
                        found.add(what)
                    if best in found:
                        return found
    except OwnCodeError:  # it cannot be computed any more: that is a change, too
        return {"outputs", "loss"}
    finally:
        model.load(start)
    return found


def _points(start: list[Array], count: int) -> Iterator[list[Array]]:
    """Yield weights and state: those at hand, and other weights, at which other units are dead."""
    yield start
    random = np.random.default_rng(1)
    for _ in range(3):
        others = [each + _size(each) * random.standard_normal(each.shape) for each in start[:count]]
        yield [*others, *start[count:]]


def _moves(array: Array, gradient: Array) -> Iterator[Array]:
    """Yield other values of a tensor: against the gradient, at random, and further away."""
    random = np.random.default_rng(0)
    size = _size(array)
    yield array - gradient * (size / np.abs(gradient).max())
    for scale in (0.1, 1.0, 10.0):
        yield array + scale * size * random.standard_normal(array.shape)
    yield random.standard_normal(array.shape)


def _size(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=float)))) or 1.0


def _asked(calls: Calls) -> list[tuple[str, Callable[[], Any]]]:
    outputs = [] if calls.outputs is None else [("outputs", calls.outputs)]
    return [*outputs, ("loss", calls.loss), ("gradient", calls.gradient)]


def _answers(calls: Calls) -> dict[str, Any]:
    return {what: answer() for what, answer in _asked(calls)}


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return all(_equal(*each) for each in zip(a, b, strict=True))
    return np.array_equal(a, b, equal_nan=True)
