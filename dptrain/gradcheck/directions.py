"""A gradient along random directions, as a comparison with a stated power."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import Comparison, Entry, TensorResult
from dptrain.gradcheck.oracles.projections import Oracle, Projected, blocks_of, projected
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.nn.network import Tensor

Array = NDArray[Any]

# The probability with which an error of the size named in the report may have gone unseen.
MISSED = 1e-3
# An oracle that is less certain than this, relative to a tensor's largest element or to its norm,
# says nothing.
RESOLUTION = 1e-3


def compare_along_directions(
    edge: str,
    where: str,
    tensors: Sequence[Tensor],
    gradient: Array,
    oracle: Oracle,
    bounds: Array,
    seed: int,
    *,
    few: bool = False,
) -> Comparison:
    """Compare a gradient with an oracle: tensor by tensor, and large ones block by block as well.

    Args:
        edge: as of `Comparison`, as is ``where``.
        where: see there.
        tensors: those that are compared.
        gradient: what is checked, flat ``(size,)``.
        oracle: what it is compared with.
        bounds: for each element how far both may be apart by rounding, ``(size,)``.
        seed: of the directions.
        few: only one direction for each tensor, and none for blocks.
    """
    spans = [slice(tensor.start, tensor.stop) for tensor in tensors]
    blocks = [[] if few else blocks_of(s, t.shape) for s, t in zip(spans, tensors, strict=True)]
    many = {"gaussian": 1, "signs": 0} if few else {}
    _, found = projected(spans, gradient, oracle, bounds, blocks=blocks, seed=seed, **many)
    sizes = [float(np.linalg.norm(gradient[span])) for span in spans]
    results = tuple(map(_result, tensors, found, sizes))
    unseen = max((_seen(e) / s for e, s in zip(found, sizes, strict=True) if s), default=np.nan)
    note = (
        f"seed {seed}; an error of {unseen:.1e} of a tensor's gradient goes unseen with a "
        f"probability of {MISSED:g}"
    )
    every = [p for each in found for p in each.all]
    if left := sum(not p.compared for p in every):
        note += f"; {left} of {len(every)} directions are not compared, kinks are too near"
    # a gradient that is 0 but for rounding, as of biases before a batch norm, has no size
    zero = [float(np.linalg.norm(bounds[span])) for span in spans]
    verdicts = [
        _verdict(each, s if s > z else max(sizes))
        for each, s, z in zip(found, sizes, zero, strict=True)
    ]
    wrong = [
        f"{tensor.name}[{_rows(tensor, block)}]"
        for tensor, own, each in zip(tensors, blocks, found, strict=True)
        for block, projection in zip(own, each.blocks, strict=True)
        if not projection.fits and any(p.fits for p in each.blocks)
    ]
    return Comparison(
        "analytic = projections",
        edge,
        where,
        worst(verdicts),
        results,
        f"{note}; wrong in {', '.join(wrong)}" if wrong else note,
    )


def _result(tensor: Tensor, found: Projected, size: float) -> TensorResult:
    entries = [Entry((), p.found, p.wanted, p.tolerance) for p in found.all if p.compared]
    ratios = [abs(e.found - e.wanted) / (e.tolerance or 1e-300) for e in entries]
    top = entries[int(np.argmax(ratios))] if entries else None
    seen = _seen(found) / size if size else np.nan
    failed = sum(not p.fits for p in found.all)
    elements = tensor.stop - tensor.start
    return TensorResult(tensor.name, elements, len(entries), 0, failed, top, (seen, seen))


def _verdict(found: Projected, size: float) -> Verdict:
    """Return what the projections of a tensor whose gradient has a norm come to."""
    if not found.fits:
        return Verdict.FAIL
    if not size:  # the loss is flat
        return Verdict.PASS
    whole = any(each.error <= RESOLUTION * size for each in found.projections)
    parts = bool(found.blocks) and all(each.error <= RESOLUTION * size for each in found.blocks)
    return Verdict.PASS if whole or parts else Verdict.INCONCLUSIVE


def _rows(tensor: Tensor, block: slice) -> str:
    """Return which rows of a tensor a block has, as a slice is written."""
    row = (tensor.stop - tensor.start) // tensor.shape[0]
    return ":".join(str((place - tensor.start) // row) for place in (block.start, block.stop))


def _seen(found: Projected) -> float:
    """Return the norm of an error that goes unseen with the probability `MISSED`."""
    known = [p.tolerance for p in found.projections if p.gaussian and p.compared]
    if not known:
        return np.inf
    low, high = 0.0, max(known) * 1e6 + 1e-300
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if found.missed(middle) > MISSED else (low, middle)
    return high
