"""Whether loss and gradient are means over the rows: a few rows are repeated, reordered and split.

With f(n rows) the mean over n rows of what each row gives, all rows twice over give f again, any
order of them does, and so do parts of them, weighted by their rows. A sum doubles instead, and a
penalty of the weights that is divided by the rows halves. What passes all but the parts computes
its rows together: the loss of the hardest row, inputs centred by the minibatch, batch statistics.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Loss = Callable[[Array, Array], float]
Gradient = Callable[[Array, Array], Sequence[Any]]

FEWEST, MOST = 4, 12
SUM, DIVIDED, ORDER, TOGETHER = "sum", "divided", "order", "together"

_FACTS = {
    SUM: "a sum over the rows: with twice the rows it is twice as large",
    DIVIDED: (
        "no mean over the rows: a part of it, such as a penalty of the weights, is divided by the "
        "number of rows"
    ),
    ORDER: "no mean over the rows: in another order the same rows give something else",
    TOGETHER: (
        "no mean over the rows, which are computed together, as by batch normalisation: two parts "
        "of them, weighted by their rows, do not give what all give at once"
    ),
}


class RowDependence(NamedTuple):
    """What keeps a loss or a gradient from being a mean over the rows.

    Attributes:
        kind: `SUM`, `DIVIDED`, `ORDER` or `TOGETHER`. The last two may be meant.
        what: ``"loss"``, ``"gradient"``, or a tensor's, such as ``"gradient of W1"``.
        fact: the rest of a sentence that begins with ``what`` and "is".
        found: what was computed, for a gradient its norm.
        wanted: what a mean would be.
    """

    kind: str
    what: str
    fact: str
    found: float
    wanted: float

    @property
    def sentence(self) -> str:
        """The finding in words."""
        return f"the {self.what} is {self.fact}"


def row_findings(
    loss: Loss | None, gradient: Gradient | None, x: Array, t: Array, names: Sequence[str] = ()
) -> list[RowDependence]:
    """Return what is no mean over the rows; nothing where that cannot be told.

    Args:
        loss: of any rows, the same at every call with the same rows; None where it draws random
            numbers, which are others for other rows.
        gradient: of the same, a list of arrays; None likewise.
        x: rows ``(n, ...)``; the first `MOST` are used, and fewer than `FEWEST` are too few.
        t: their targets.
        names: of the gradient's arrays.
    """
    x, t = x[:MOST], t[:MOST]
    if len(x) < FEWEST:
        return []
    found = [] if loss is None else _told(_computed(lambda *of: [loss(*of)], x, t), "loss")
    return (
        found if gradient is None else found + _told(_computed(gradient, x, t), "gradient", names)
    )


class _Rows(NamedTuple):
    """A vector of one tensor, from the rows at hand in four forms.

    Attributes:
        once: from all rows.
        twice: from all rows, each there twice.
        turned: from all rows in another order.
        parts: from two parts, added.
        mean: from two parts, weighted by their rows.
        limit: for how far vectors of these sizes may be apart, in the euclidean norm.
    """

    once: Array
    twice: Array
    turned: Array
    parts: Array
    mean: Array
    limit: float

    def same(self, a: Array, b: Array) -> bool:
        """Return whether two vectors are the same up to rounding."""
        return bool(np.linalg.norm(a - b) <= self.limit)


def _told(computed: list[_Rows], what: str, names: Sequence[str] = ()) -> list[RowDependence]:
    """Return one finding of each kind; it names tensors where others are of another, or means."""
    kinds: dict[str, list[tuple[int, float, float]]] = {}
    for i, rows in enumerate(computed):
        kind, found, wanted = _judged(rows)
        if kind or np.linalg.norm(rows.once) > rows.limit:
            norms = (float(np.linalg.norm(found)), float(np.linalg.norm(wanted)))
            kinds.setdefault(kind, []).append((i, *norms))
    findings = []
    for kind, parts in kinds.items():
        which = f" of {', '.join(names[i] for i, *_ in parts)}" if names and len(kinds) > 1 else ""
        _, *pair = max(parts, key=lambda each: abs(each[1] - each[2]))
        findings.append(RowDependence(kind, what + which, _FACTS.get(kind, ""), *pair))
    return [each for each in findings if each.kind]


def _computed(function: Gradient, x: Array, t: Array) -> list[_Rows]:
    n = len(x)
    cut, order = n // 3 + 1, np.arange(n)[::-1]  # unequal parts, of more than one row each

    def at(rows: Array) -> list[Array]:
        found = function(np.ascontiguousarray(x[rows]), np.ascontiguousarray(t[rows]))
        return [np.array(each, float).reshape(-1) for each in found]

    every = np.arange(n)
    forms = [at(every), at(np.tile(every, 2)), at(order), at(every[:cut]), at(every[cut:])]
    again = at(every)
    numbers = np.concatenate([np.concatenate(each) for each in forms])
    if not np.isfinite(numbers).all() or not all(map(np.array_equal, forms[0], again)):
        return []
    # what was computed in float32 anywhere may be off in more than its last digits
    coarse = np.array_equal(numbers.astype(np.float32), numbers)
    relative, floor = (1e-3, 1e-5) if coarse else (1e-8, 1e-12)
    largest = max(float(np.linalg.norm(each)) for form in forms for each in form)
    found = []
    for once, twice, turned, one, other in zip(*forms, strict=True):
        size = max(float(np.linalg.norm(each)) for each in (once, twice, turned, one, other))
        limit = relative * max(size, 0.01 * largest) + floor
        mean = (cut * one + (n - cut) * other) / n
        found.append(_Rows(once, twice, turned, one + other, mean, limit))
    return found


def _judged(rows: _Rows) -> tuple[str, Array, Array]:
    """Return which kind of finding it is, if any, with what was found and what is wanted."""
    once, twice, mean = rows.once, rows.twice, rows.mean
    if not rows.same(rows.turned, once):
        return ORDER, rows.turned, once
    if rows.same(twice, once):
        return "" if rows.same(mean, once) else TOGETHER, mean, once
    # S + P, a sum and what is added to it once: 2 S + P from twice the rows, S + 2 P from parts
    if rows.same(rows.parts - once, 2 * once - twice):
        return SUM, twice, once
    # M + P / n, a mean and what is divided by n rows: M + P / 2n, and M + 2 P / n from parts
    if rows.same(mean - once, 2 * (once - twice)):
        return DIVIDED, twice, once
    return TOGETHER, twice, once
