"""Dropout masks of real workers, and what they look like when something is wrong with them."""

from typing import Any

import numpy as np
import pytest

from dptrain.arithmetic.randomness import Purpose, SteppedUniform
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.masks import Masks, check_masks, diagnose_masks, hoeffding, judged, seen
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
NAMES = [
    "masks = the reference's",
    "what is kept is divided by 1 - p",
    "dropped = p",
    "masks of two rows agree by chance only",
]


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_masks_of_real_workers(exchange: str, data: Data, workers: Program) -> None:
    job = data.job(experiment(layers=LAYERS, dtype="float32"))
    found = check_masks(job, Way(exchange, 3), worker=workers)
    assert [c.verdict for c in found] == [Verdict.PASS] * 8
    assert [c.name for c in found] == NAMES * 2
    assert [c.where for c in found[::4]] == [
        f"{exchange}, 3 workers, dropout {p}" for p in (0.2, 0.5)
    ]


def test_a_network_without_dropout_has_none(data: Data) -> None:
    assert check_masks(data.job(experiment()), INLINE) == []


def test_every_row_is_seen(data: Data) -> None:
    masks = seen(data.job(experiment()).experiment, INLINE, 0.3)
    assert masks.sizes == [(3, 3, 3, 2, 2)] * 4
    assert masks.kept.shape == (52, 1024)
    assert diagnose_masks(masks) == []
    assert [c.compared for c in judged(masks, INLINE)] == [52 * 1024, 52 * 1024, 1, 52 * 51 // 2]


def test_the_bound_of_a_fraction() -> None:
    # P(|mean - p| >= t) <= 2 exp(-2 n t²)
    t = hoeffding(1000, 1e-9)
    assert 2 * np.exp(-2 * 1000 * t**2) == pytest.approx(1e-9)


def kinds(masks: Masks) -> tuple[str, set[str]]:
    """Return the best diagnosis, and which comparisons have failed."""
    failed = {c.name for c in judged(masks, INLINE) if c.verdict is Verdict.FAIL}
    best = diagnose_masks(masks)[0]
    assert best.residual < 1e-6
    return best.kind, failed


def wrong(data: Data, monkeypatch: pytest.MonkeyPatch, change: Any) -> tuple[str, set[str]]:
    """Return what is said when the streams are filled otherwise."""
    right = SteppedUniform.fill
    monkeypatch.setattr(
        SteppedUniform, "fill", lambda stream, step, out: change(right, stream, step, out)
    )
    return kinds(seen(data.job(experiment()).experiment, INLINE, 0.3))


def test_the_same_masks_in_every_step(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, failed = wrong(data, monkeypatch, lambda fill, stream, _, out: fill(stream, 0, out))
    assert kind == "masks-equal-between-steps"
    assert failed == {NAMES[0], NAMES[3]}


def test_the_same_masks_in_every_shard(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SteppedUniform(3, Purpose.DROPOUT, 0, 0)
    kind, failed = wrong(data, monkeypatch, lambda fill, _, step, out: fill(first, step, out))
    assert kind == "dropout-equal-masks"
    assert failed == {NAMES[0], NAMES[3]}


@pytest.mark.parametrize(
    ("kind", "change", "failing"),
    [
        ("dropout-scale", lambda v, p: v * (1 - p), NAMES[1:2]),
        ("dropout-scaled-twice", lambda v, p: v / (1 - p), NAMES[1:2]),
        ("dropout-scaled-by-rate", lambda v, p: v * (1 - p) / p, NAMES[1:2]),
        ("dropout-missing", lambda v, _: np.ones(v.shape), NAMES),
    ],
)
def test_other_factors(kind: str, change: Any, failing: list[str], data: Data) -> None:
    masks = seen(data.job(experiment()).experiment, INLINE, 0.3)
    wrong = masks._replace(values=[change(part, 0.3) for part in masks.values])
    assert kinds(wrong) == (kind, set(failing))


def test_the_complement_of_the_rate(data: Data) -> None:
    described = data.job(experiment()).experiment
    swapped = seen(described, INLINE, 0.7)._replace(rate=0.3)
    kind, failed = kinds(swapped)
    assert kind == "dropout-rate-complement"
    assert failed == set(NAMES[:3])


def test_masks_of_another_experiment_are_not_explained(data: Data) -> None:
    masks = seen(data.job(experiment(seed=4)).experiment, INLINE, 0.3)._replace(seed=3)
    (failed,) = [c for c in judged(masks, INLINE) if c.verdict is Verdict.FAIL]
    assert (failed.name, failed.note) == (NAMES[0], "No known mistake explains it.")
