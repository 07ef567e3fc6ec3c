"""Dropout masks of real workers, and what they look like when something is wrong with them."""

from typing import Any

import numpy as np
import pytest

from dptrain.arithmetic.randomness import Purpose, SteppedUniform
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.masks import Masks, check_masks, diagnose_masks, judged, seen
from dptrain.gradcheck.reference.mistaken_masks import Mask
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from tests.exchange.build import WITH_WORKERS, Data
from tests.gradcheck.build import FLAT, dense, experiment
from tests.gradcheck.build import data as data

INLINE = Way("inline", 1)
LAYERS = [
    FLAT,
    {"layer": "dropout", "rate": 0.2},
    {"layer": "residual", "layers": [{"layer": "dropout", "rate": 0.5}]},
    {"layer": "dropout", "rate": 0.2},
    {"layer": "dropout", "rate": 0.0},
    dense(3),
]


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_masks_of_real_workers(exchange: str, data: Data, workers: Program) -> None:
    job = data.job(experiment(layers=LAYERS, dtype="float32"))
    found = check_masks(job, Way(exchange, 3), worker=workers)
    assert [c.verdict for c in found] == [Verdict.PASS] * 2
    assert [c.where for c in found] == [f"{exchange}, 3 workers, dropout {p}" for p in (0.2, 0.5)]


def test_a_network_without_dropout_has_none(data: Data) -> None:
    assert check_masks(data.job(experiment()), INLINE) == []


@pytest.fixture(scope="module")
def masks(data: Data) -> Masks:
    return seen(data.job(experiment()).experiment, INLINE, 0.3)


def test_every_row_is_seen_and_has_a_mask_of_its_own(masks: Masks) -> None:
    assert masks.sizes == [(3, 3, 3, 2, 2)] * 4
    assert diagnose_masks(masks) == []
    assert judged(masks, INLINE).compared == 52 * 1024
    kept = masks.drawn(Mask()) > 0
    # P(|mean - p| >= t) <= 2 exp(-2 n t²): Hoeffding 1963, theorem 1
    assert abs(kept.mean() - 0.7) < np.sqrt(np.log(2e9) / (2 * kept.size))
    agreeing = np.array([(a == b).mean() for i, a in enumerate(kept) for b in kept[:i]])
    assert np.abs(agreeing - 0.58).max() < np.sqrt(np.log(2e9 * len(agreeing)) / (2 * 1024))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v, p: v * (1 - p), "1/(1-p) is missing"),
        (lambda v, p: v / (1 - p), "1/(1-p) is taken twice"),
        (lambda v, p: v * (1 - p) / p, "what is kept is divided by p, not by 1-p"),
        (lambda v, p: 1 / (1 - p) - v, "what should be kept is left out"),
        (lambda v, _: np.ones(v.shape), "nothing is left out"),
        (lambda v, _: v[::-1], "No known mistake explains it"),
    ],
)
def test_other_factors(change: Any, sentence: str, masks: Masks) -> None:
    found = judged(masks._replace(values=change(masks.values, 0.3)), INLINE)
    assert found.verdict is Verdict.FAIL
    assert found.note in (f"Dropout: {sentence}.", f"{sentence}.")


def test_the_complement_of_the_rate(data: Data) -> None:
    swapped = seen(data.job(experiment()).experiment, INLINE, 0.7)._replace(rate=0.3)
    assert judged(swapped, INLINE).note == "Dropout: p is the probability to be kept."


FIRST = SteppedUniform(3, Purpose.DROPOUT, 0, 0)


@pytest.mark.parametrize(
    ("fill", "kind", "sentence"),
    [
        (lambda right, stream, _, out: right(stream, 0, out), "dropout-stream",
         "its masks are those of step 0"),
        (lambda right, _, step, out: right(FIRST, step, out), "dropout-equal-masks",
         "all shards draw the same mask"),
        (lambda right, stream, step, out: right(stream, step // 2, out), "dropout-stream",
         "its masks are keyed by the epoch, not the step"),
    ],
)  # fmt: skip
def test_other_streams(
    fill: Any, kind: str, sentence: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = SteppedUniform.fill
    monkeypatch.setattr(SteppedUniform, "fill", lambda *args: fill(right, *args))
    found = diagnose_masks(seen(data.job(experiment()).experiment, INLINE, 0.3))[0]
    assert (found.kind, found.sentence) == (kind, f"Dropout: {sentence}.")
    assert found.residual < 1e-6
