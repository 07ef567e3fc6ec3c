"""Bugs in a network of the user's own, of which only tensors are known and no layers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import TensorResult
from dptrain.gradcheck.diagnosis import EXPLAINS, Mistake, safely, times
from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis
from dptrain.nn.network import Tensor

Array = NDArray[Any]
# What is wrong, and the gradient that it would lead to.
Row = Mistake[Array]

# A factor that explains a tensor leaves less than this of it.
EXPLAINED = 1e-6
# Numbers that a fit needs for each row, and how far apart weights of rows are that differ.
ENOUGH, ODD = 3, 1e-3
# With fewer elements, anything is a multiple of the weights.
LEAST = 3
# Single elements that are named, at most.
NAMED = 4


def hypotheses(e: Evidence, failed: Sequence[TensorResult]) -> Iterator[Hypothesis]:
    """Yield what explains the gradient, the more telling first, and then where it is wrong.

    Args:
        e: the evidence.
        failed: the tensors of the comparison that failed; those that did not are right.
    """
    names = [each.tensor for each in failed if each.failed]
    wrong = [t for t in e.tensors if t.name in names]
    for rows in (_counted, _weighted_rows, _decayed, _scaled, _zeros) if wrong else ():
        for each in safely(rows(e, wrong)):
            yield Hypothesis(each.kind, each.sentence, each.change)
    if wrong:
        kind, sentence, left = _placed(e, wrong, failed)
        yield Hypothesis(kind, sentence, e.found + left * (e.found - e.right), placed=True)


def _names(wrong: Sequence[Tensor]) -> str:
    return ", ".join(t.name for t in wrong)


def _parts(e: Evidence, wrong: Sequence[Tensor], *, known: bool = True) -> Iterator[Any]:
    """Yield place, found, right and weights of each wrong tensor: of known elements, or of all."""
    for tensor in wrong:
        own = slice(tensor.start, tensor.stop)
        which = e.scale[own] > 0 if known else slice(None)
        weights = e.found if e.parameters is None else e.parameters
        yield own, e.found[own][which], e.right[own][which], weights[own][which]


def _counted(e: Evidence, wrong: list[Tensor]) -> Iterator[Row]:
    """Rows count otherwise in some tensors."""
    sizes, what = np.array(e.sizes, float), f"the gradient of {_names(wrong)} is"
    summed = f"{what} the sum over the rows instead of their mean"
    yield Row("sum-not-mean", summed, _changed(e, wrong, e.weighted(sizes)))
    divided = f"{what} divided by the rows once more, or is a mean over them"
    yield Row("divided-twice", divided, _changed(e, wrong, e.weighted(1 / sizes)))
    if e.rows is not None:
        rows, _ = e.rows()
        ends = np.cumsum(e.sizes)
        for places, which in ((ends - np.array(e.sizes), "first"), (ends - 1, "last")):
            alone = f"{what} missing the sum over rows: it is that of the {which} row alone"
            yield Row("bias-axis", alone, _changed(e, wrong, rows[places].sum(axis=0)))


def _changed(e: Evidence, wrong: Sequence[Tensor], other: Array) -> Array:
    predicted = e.right.copy()
    for tensor in wrong:
        own = slice(tensor.start, tensor.stop)
        predicted[own] = other[own]
    return predicted


def _weighted_rows(e: Evidence, _: list[Tensor]) -> Iterator[Row]:
    """Some rows are left out, and the others count the more; each as often as fits best."""
    if e.rows is None:
        return
    rows, used = e.rows()[0], e.scale > 0
    if np.count_nonzero(used) < ENOUGH * len(rows) or not np.isfinite(e.found[used]).all():
        return
    weights, *_others = np.linalg.lstsq(rows[:, used].T, e.found[used], rcond=None)
    usual = float(np.median(weights))
    odd = np.flatnonzero(np.abs(weights - usual) > ODD)
    if abs(usual - 1) > ODD and 0 < len(odd) <= len(rows) // 2:
        listed = ", ".join(f"row {i} {times(float(weights[i]))}" for i in odd)
        sentence = f"rows count otherwise: {listed}, the others {times(usual)}"
        yield Row("rows-weighted", sentence, weights @ rows)


def _decayed(e: Evidence, wrong: list[Tensor]) -> Iterator[Row]:
    """What is missing, or too much, is a multiple of the weights."""
    if e.parameters is None or min(t.stop - t.start for t in wrong) < LEAST:
        return
    predicted, factors = e.found.copy(), []
    for own, found, right, w in _parts(e, wrong):
        left = right - found
        factor = float(left @ w / (w @ w)) if w.any() else 0.0
        if not np.linalg.norm(left - factor * w) <= EXPLAINED * np.linalg.norm(left):
            return
        predicted[own] = e.right[own] - factor * e.parameters[own]
        factors.append(factor)
    much = all(factor < 0 for factor in factors)
    pairs = zip(factors, wrong, strict=True)
    listed = ", ".join(f"{-f if much else f:.4g} {t.name}" for f, t in pairs)
    if much:
        sentence = f"{listed} is too much: the gradient has more of a penalty than the loss"
        yield Row("weight-decay-factor", sentence, predicted)
        return
    sentence = (
        f"{listed} is missing: the loss has a penalty of the weights, and the gradient has none, "
        "or not as much"
    )
    yield Row("weight-decay-missing", sentence, predicted)


def _scaled(e: Evidence, wrong: list[Tensor]) -> Iterator[Row]:
    """Every wrong tensor is a multiple of what it should be."""
    predicted, factors = e.found.copy(), []
    for own, found, right, _ in _parts(e, wrong):
        factor = float(found @ right / (right @ right)) if right.any() else 0.0
        left, off = np.linalg.norm(found - factor * right), np.linalg.norm(found - right)
        if not left <= min(EXPLAINED * np.linalg.norm(right), EXPLAINS * off):
            return
        predicted[own] = factor * e.right[own]
        factors.append(times(factor))
    if len(set(factors)) == 1:
        what = "the gradient" if len(factors) == len(e.tensors) else _names(wrong)
        said = f"{what} is {factors[0]}"
    else:
        said = ", ".join(f"{t.name} is {f}" for t, f in zip(wrong, factors, strict=True))
    yield Row("scaled", f"{said} what it should be", predicted)


def _zeros(e: Evidence, wrong: list[Tensor]) -> Iterator[Row]:
    """Elements are 0 that should not be, such as those of the last unit."""
    predicted, said = e.right.copy(), []
    for tensor, (own, found, right, _) in zip(wrong, _parts(e, wrong, known=False), strict=True):
        zero = (found == 0) & (right != 0)
        predicted[own][zero] = 0
        places = np.argwhere(zero.reshape(tensor.shape))
        if len(places):
            where = [str(axis[0]) if (axis == axis[0]).all() else ":" for axis in places.T]
            said.append(f"{tensor.name}[{', '.join(where)}]")
    if said:
        yield Row("zeros", f"{', '.join(said)} is 0 where it should not be", predicted)


def _placed(
    e: Evidence, wrong: Sequence[Tensor], results: Sequence[TensorResult]
) -> tuple[str, str, float]:
    """Return what the place tells, in a network that is a chain; and what part is left.

    A little of the difference, so that whatever explains all of it comes first; and more of it
    where the place says next to nothing.
    """
    names, bad = [t.name for t in e.tensors], [t.name for t in wrong]
    right = ", ".join(name for name in names if name not in bad)
    first, *others = (each for each in results if each.failed)
    place = first.worst.place if first.worst is not None and not others else ()
    if place and first.failed < min(NAMED, first.compared):
        count = "one element is" if first.failed == 1 else f"{first.failed} elements are"
        where = f"{bad[0]}{list(place)}"
        return "tensor", f"{count} wrong, {where}, and everything else is right", 0.01
    if len(bad) == len(names):
        sentence = (
            "all tensors are wrong: the fault lies where the backward pass begins, such as the "
            "derivative of the loss, or its mean"
        )
        return "loss-derivative", sentence, 0.05
    if len(bad) > 1 and bad == names[: len(bad)]:
        sentence = (
            f"{', '.join(bad)} are wrong, {right} right: what is passed back to {bad[-1]} is "
            "wrong, such as the derivative of the activation"
        )
        return "activation-derivative", sentence, 0.01
    return "tensor", f"the gradient of {', '.join(bad)} is wrong, that of {right} right", 0.01
