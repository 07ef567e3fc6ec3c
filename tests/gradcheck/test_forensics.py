"""Shard forensics: how shards are counted, and which bug that is put down to."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.gradcheck.forensics import diagnose, fit
from dptrain.gradcheck.hypotheses.areas import Area
from dptrain.gradcheck.hypotheses.evidence import Evidence, Past
from dptrain.gradcheck.zoo.runner import run_zoo
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Tensor

Array = NDArray[Any]

SIZES = (5, 7, 9, 3)
RANKS = ((0, 1), (1, 2), (2, 3), (3, 4))
SHARDS = np.random.default_rng(2).standard_normal((4, 40))
TENSORS = [
    Tensor("dense1.W", (7, 5), 0, 35, decays=True, init=Zeros(), fans=(7, 5)),
    Tensor("dense1.b", (5,), 35, 40, decays=False, init=Zeros(), fans=(7, 5)),
]


def evidence(found: Array, **more: Any) -> Evidence:
    return Evidence(TENSORS, found, SHARDS.sum(axis=0), SHARDS, SIZES, RANKS, 24, **more)


@pytest.mark.parametrize(
    ("weights", "kind"),
    [
        ((1, 1, 1, 0), "shard-dropped"),
        ((2, 1, 1, 0), "shard-doubled"),
        ((1.2, 24 / 28, 24 / 36, 2), "mean-of-means"),  # N / (W n_s)
        ((0.25, 0.25, 0.25, 0.25), "divided-twice"),
        ((24, 24, 24, 24), "sum-not-mean"),
        ((-1, -1, -1, -1), "sign"),
        ((0, 0, 0, 0), "reset-early"),
        ((4, 0, 0, 0), "same-shard"),
    ],
)
def test_weights_of_shards(weights: tuple[float, ...], kind: str) -> None:
    wrong = evidence(np.array(weights, float) @ SHARDS)
    np.testing.assert_allclose(fit(wrong).weights, weights, atol=1e-12)
    assert fit(wrong).residual < 1e-12
    assert diagnose(wrong)[0].kind == kind


def test_the_rank_is_named() -> None:
    weights = np.array([1.0, 1, 0, 1])
    first = diagnose(evidence(weights @ SHARDS))[0]
    assert "rank 2's part (shard 2) is missing" in first.sentence
    assert first.residual < 1e-12


def _transposed(g: Array) -> Array:
    found = g.copy()
    found[:35] = g[:35].reshape(7, 5).T.reshape(-1)
    return found


def _flipped(g: Array) -> Array:
    bits = g.copy()
    bits.view(np.int64)[17] ^= 1 << 20
    return bits


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda g: g.astype(np.float16).astype(float), "float16"),
        (lambda g: g.astype(np.float32).astype(float), "float32"),
        (lambda g: g.byteswap(), "byte-order"),
        (_transposed, "transposed"),
        (_flipped, "bit-flip"),
        (lambda g: np.where(np.arange(40) < 20, g, 0), "truncated"),
        (lambda g: np.roll(g, 1), "bucket-offset"),
        (lambda g: np.where(np.arange(40) < 35, g, 0), "bias-missing"),
        (lambda g: np.concatenate([g[35:], g[:35]]), "parameter-order"),
        (lambda g: np.where(np.arange(40) < 35, g, 2 * g), "tied-twice"),
    ],
)
def test_what_happens_on_the_way(change: Any, kind: str) -> None:
    assert diagnose(evidence(change(SHARDS.sum(axis=0))))[0].kind == kind


def _of_each_rank(keep: Any) -> Array:
    """Return the sum of what is kept of every rank's part."""
    found: Array = np.sum([np.where(keep(part), part, 0) for part in SHARDS], axis=0)
    return found


def test_small_elements_that_are_left_out() -> None:
    first = diagnose(evidence(_of_each_rank(lambda g: np.abs(g) >= 0.3)))[0]
    assert first.kind == "elements-dropped"
    counts = [int((np.abs(part) < 0.3).sum()) for part in SHARDS]
    listed = ", ".join(f"{count} of rank {rank}" for rank, count in enumerate(counts))
    assert first.sentence.startswith("the smallest numbers of ranks' parts are left out")
    assert first.sentence.endswith(listed)


def test_elements_that_are_left_out_at_random() -> None:
    random = np.random.default_rng(0)
    first = diagnose(evidence(_of_each_rank(lambda g: random.random(g.shape) < 0.7)))[0]
    assert first.sentence.startswith("numbers of ranks' parts are left out")


def test_weights_that_were_rounded() -> None:
    weights = np.random.default_rng(5).standard_normal(40)
    rounded = weights.astype(np.float16).astype(float)

    def at(w: Array) -> Array:
        found: Array = SHARDS * w
        return found

    right = at(weights)
    wrong = at(rounded)[1] + np.delete(right, 1, axis=0).sum(axis=0)
    found = Evidence(
        TENSORS, wrong, right.sum(axis=0), right, SIZES, RANKS, 24, at=at, parameters=weights
    )
    first = diagnose(found)[0]
    assert first.kind == "weights-rounded"
    assert first.sentence == "rank 1 computes with weights rounded to float16"


def test_weights_of_the_step_before_in_a_part() -> None:
    weights, before = np.random.default_rng(5).standard_normal((2, 40))
    mixed = np.where(np.arange(40) < 20, weights, before)

    def at(w: Array) -> Array:
        found: Array = SHARDS * np.sum(w**2) + w
        return found

    right = at(weights)
    areas = [Area("bucket 0", 0, 20), Area("bucket 1", 20, 40)]
    past = [Past(before, at(before).sum(axis=0), list(at(before)))]
    found = Evidence(
        TENSORS, at(mixed).sum(axis=0), right.sum(axis=0), right, SIZES, RANKS, 24, past, at=at,
        parameters=weights, areas=areas,
    )  # fmt: skip
    first = diagnose(found)[0]
    assert first.kind == "stale-weights"
    assert first.sentence == "all ranks compute with the weights of the step before in bucket 1"


def test_the_order_of_arrival() -> None:
    found = (SHARDS[0] + SHARDS[3]) + (SHARDS[1] + SHARDS[2])
    assert not np.array_equal(found, SHARDS.sum(axis=0))
    assert diagnose(evidence(found))[0].kind == "arrival-order"


def test_what_was_left_over_from_the_step_before() -> None:
    before = np.random.default_rng(5).standard_normal((4, 40))
    past = [Past(np.zeros(40), before.sum(axis=0), list(before))]
    wrong = evidence(SHARDS.sum(axis=0) + before.sum(axis=0), past=past)
    assert diagnose(wrong)[0].kind == "not-reset"
    late = evidence(SHARDS.sum(axis=0) - SHARDS[1] + before[1], past=past)
    found = diagnose(late)[0]
    assert found.kind == "race"
    assert "rank 1" in found.sentence


def test_a_number_where_there_is_none() -> None:
    shards = SHARDS.copy()
    shards[2, 3] = np.nan
    total = shards.sum(axis=0)
    wrong = Evidence(TENSORS, np.nan_to_num(total), total, shards, SIZES, RANKS, 24)
    assert diagnose(wrong)[0].kind == "nan-swallowed"


def test_nothing_is_named_where_nothing_explains_it() -> None:
    found = diagnose(evidence(np.random.default_rng(9).standard_normal(40)))
    assert all(each.residual > 0.3 for each in found)


def test_the_zoo_lets_bugs_loose_in_real_workers() -> None:
    """The whole zoo is a command of its own, which CI runs; here is one of each outcome."""
    told: list[Any] = []
    names = ["shard-dropped", "adam-step", "no-decay-multiplied"]
    zoo = run_zoo(told.append, names)
    assert [each.bug.name for each in told] == names
    assert [each.killed for each in zoo.caught] == [True, True, False]
    assert all(each.right for each in zoo.caught)
    assert zoo.good
