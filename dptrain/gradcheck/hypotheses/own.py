"""Bugs in a network of the user's own, of which only tensors are known and no layers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import TensorResult
from dptrain.gradcheck.diagnosis import EXPLAINS, times
from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis
from dptrain.nn.network import Tensor

Array = NDArray[Any]

# A factor that explains a tensor leaves less than this of it.
EXPLAINED = 1e-6
# Numbers that a fit needs for each row, and how far apart weights of rows are that differ.
ENOUGH, ODD = 3, 1e-3
# With fewer elements, anything is a multiple of the weights.
LEAST = 3
# Single elements that are named, at most.
NAMED = 4


def hypotheses(e: Evidence, failed: Sequence[TensorResult]) -> Iterator[Hypothesis]:
    """Yield what explains the gradient, the more telling first.

    Args:
        e: the evidence.
        failed: the tensors of the comparison that failed; those that did not are right.
    """
    names = [each.tensor for each in failed if each.failed]
    wrong = [t for t in e.tensors if t.name in names]
    if wrong:
        yield from _counted(e, wrong)
        yield from _decayed(e, wrong)
        yield from _scaled(e, wrong)
        yield from _zeros(e, wrong)
        yield from _placed(e, wrong, failed)


def _counted(e: Evidence, wrong: Sequence[Tensor]) -> Iterator[Hypothesis]:
    """Rows count otherwise in some tensors."""
    names = ", ".join(t.name for t in wrong)
    sizes = np.array(e.sizes, float)
    what = f"the gradient of {names} is"
    for weights, kind, how in (
        (sizes, "sum-not-mean", "the sum over the rows instead of their mean"),
        (1 / sizes, "divided-twice", "divided by the rows once more, or is a mean over them"),
    ):
        yield Hypothesis(kind, f"{what} {how}", _changed(e, wrong, e.weighted(weights)))
    if e.rows is None:
        return
    rows, _ = e.rows()
    ends = np.cumsum(e.sizes)
    yield from _weighted_rows(e, rows)
    for places, which in ((ends - np.array(e.sizes), "first"), (ends - 1, "last")):
        sentence = f"{what} missing the sum over rows: it is that of the {which} row alone"
        yield Hypothesis("bias-axis", sentence, _changed(e, wrong, rows[places].sum(axis=0)))


def _weighted_rows(e: Evidence, rows: Array) -> Iterator[Hypothesis]:
    """Rows are left out, and the others count for them: there are `history.py`'s where they do not.

    Each row counts as often as fits best.
    """
    used = e.scale > 0
    if np.count_nonzero(used) < ENOUGH * len(rows) or not np.isfinite(e.found[used]).all():
        return
    weights, *_ = np.linalg.lstsq(rows[:, used].T, e.found[used], rcond=None)
    usual = float(np.median(weights))
    odd = np.flatnonzero(np.abs(weights - usual) > ODD)
    if abs(usual - 1) <= ODD or not 0 < len(odd) <= len(rows) // 2:
        return
    listed = ", ".join(f"row {i} {times(float(weights[i]))}" for i in odd)
    sentence = f"rows count otherwise: {listed}, the others {times(usual)}"
    yield Hypothesis("rows-weighted", sentence, weights @ rows)


def _changed(e: Evidence, wrong: Sequence[Tensor], other: Array) -> Array:
    predicted = e.right.copy()
    for tensor in wrong:
        own = slice(tensor.start, tensor.stop)
        predicted[own] = other[own]
    return predicted


def _decayed(e: Evidence, wrong: Sequence[Tensor]) -> Iterator[Hypothesis]:
    """What is missing, or too much, is a multiple of the weights."""
    if e.parameters is None or min(t.stop - t.start for t in wrong) < LEAST:
        return
    predicted, factors = e.found.copy(), []
    for tensor in wrong:
        own = slice(tensor.start, tensor.stop)
        known = e.scale[own] > 0
        w, left = e.parameters[own][known], (e.right - e.found)[own][known]
        factor = float(left @ w / (w @ w)) if w.any() else 0.0
        if not np.linalg.norm(left - factor * w) <= EXPLAINED * np.linalg.norm(left):
            return
        predicted[own] = e.right[own] - factor * e.parameters[own]
        factors.append(factor)
    much = all(factor < 0 for factor in factors)
    sizes = [-factor for factor in factors] if much else factors
    listed = ", ".join(f"{size:.4g} {t.name}" for size, t in zip(sizes, wrong, strict=True))
    if much:
        sentence = f"{listed} is too much: the gradient has more of a penalty than the loss"
        yield Hypothesis("weight-decay-factor", sentence, predicted)
        return
    sentence = (
        f"{listed} is missing: the loss has a penalty of the weights, and the gradient has none, "
        "or not as much"
    )
    yield Hypothesis("weight-decay-missing", sentence, predicted)


def _scaled(e: Evidence, wrong: Sequence[Tensor]) -> Iterator[Hypothesis]:
    """Every wrong tensor is a multiple of what it should be."""
    predicted, factors = e.found.copy(), {}
    for tensor in wrong:
        own = slice(tensor.start, tensor.stop)
        known = e.scale[own] > 0
        found, right = e.found[own][known], e.right[own][known]
        factor = float(found @ right / (right @ right)) if right.any() else 0.0
        left = np.linalg.norm(found - factor * right)
        off = np.linalg.norm(found - right)
        if not left <= min(EXPLAINED * np.linalg.norm(right), EXPLAINS * off):
            return
        predicted[own] = factor * e.right[own]
        factors[tensor.name] = times(factor)
    if len(set(factors.values())) == 1:
        what = "the gradient" if len(factors) == len(e.tensors) else ", ".join(factors)
        sentence = f"{what} is {next(iter(factors.values()))} what it should be"
    else:
        listed = ", ".join(f"{name} is {factor}" for name, factor in factors.items())
        sentence = f"{listed} what it should be"
    yield Hypothesis("scaled", sentence, predicted)


def _zeros(e: Evidence, wrong: Sequence[Tensor]) -> Iterator[Hypothesis]:
    """Elements are 0 that should not be, such as those of the last unit."""
    predicted, said = e.right.copy(), []
    for tensor in wrong:
        own = slice(tensor.start, tensor.stop)
        zero = (e.found[own] == 0) & (e.right[own] != 0)
        predicted[own][zero] = 0
        places = np.argwhere(zero.reshape(tensor.shape))
        if len(places):
            where = [
                str(axis[0]) if (axis == axis[0]).all() else ":" for axis in places.T.astype(int)
            ]
            said.append(f"{tensor.name}[{', '.join(where)}]")
    if said:
        yield Hypothesis("zeros", f"{', '.join(said)} is 0 where it should not be", predicted)


def _placed(
    e: Evidence, wrong: Sequence[Tensor], results: Sequence[TensorResult]
) -> Iterator[Hypothesis]:
    """Which tensors are wrong tells where the fault is, in a network that is a chain."""
    names = [t.name for t in e.tensors]
    bad = [t.name for t in wrong]
    right = ", ".join(name for name in names if name not in bad)
    kind, sentence = "tensor", f"the gradient of {', '.join(bad)} is wrong, that of {right} right"
    failed = [each for each in results if each.failed]
    few = len(failed) == 1 and failed[0].failed < min(NAMED, failed[0].compared)
    if few and failed[0].worst is not None and failed[0].worst.place:
        place = list(failed[0].worst.place)
        count = "one element is" if failed[0].failed == 1 else f"{failed[0].failed} elements are"
        sentence = f"{count} wrong, {bad[0]}{place}, and everything else is right"
    elif len(bad) == len(names):
        kind = "loss-derivative"
        sentence = (
            "all tensors are wrong: the fault lies where the backward pass begins, such as the "
            "derivative of the loss, or its mean"
        )
    elif len(bad) > 1 and bad == names[: len(bad)]:
        kind = "activation-derivative"
        sentence = (
            f"{', '.join(bad)} are wrong, {right} right: what is passed back to {bad[-1]} is "
            "wrong, such as the derivative of the activation"
        )
    # a little of the difference is left, so that whatever explains all of it comes first; and more
    # of it where the place says next to nothing
    left = 0.05 if kind == "loss-derivative" else 0.01
    yield Hypothesis(kind, sentence, e.found + left * (e.found - e.right), placed=True)
