"""Wrong gradients, and which mistake each is put down to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.exchange.engine import TrainingState
from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.forensics import diagnose
from dptrain.gradcheck.hypotheses.areas import Area
from dptrain.gradcheck.hypotheses.buffers import unwritten
from dptrain.gradcheck.hypotheses.evidence import Evidence, Past, Recipe
from dptrain.gradcheck.hypotheses.scopes import Known
from dptrain.gradcheck.zoo.runner import run_zoo
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Tensor

Array = NDArray[Any]

SIZES, RANKS = (5, 7, 9, 3), ((0, 1), (1, 2), (2, 3), (3, 4))
SHARDS, BEFORE = np.random.default_rng(2).standard_normal((2, 4, 40))
RIGHT = SHARDS.sum(axis=0)
WEIGHTS, WEIGHTS_BEFORE = np.random.default_rng(5).standard_normal((2, 40))
TENSORS = [
    Tensor("dense1.W", (7, 5), 0, 35, decays=True, init=Zeros(), fans=(7, 5)),
    Tensor("dense1.b", (5,), 35, 40, decays=False, init=Zeros(), fans=(7, 5)),
]
PLACE = np.arange(40)


def at(weights: Array) -> Array:
    """Return parts of shards that depend on all weights."""
    found: Array = SHARDS * np.sum(weights**2) + weights
    return found


def evidence(found: Array, **more: Any) -> Evidence:
    return Evidence(TENSORS, found, RIGHT, SHARDS, SIZES, RANKS, 24, **more)


def of_a_run(found: Array) -> Evidence:
    """Return what is known of a gradient at weights, after one other step."""
    shards = at(WEIGHTS)
    return replace(
        evidence(found), right=shards.sum(axis=0), shards=shards, parameters=WEIGHTS,
        parts=lambda recipe: at(np.asarray(recipe.weights)),
        past=[Past(WEIGHTS_BEFORE, at(WEIGHTS_BEFORE))],
        areas=[Area("bucket 0", 0, 20), Area("bucket 1", 20, 40)],
    )  # fmt: skip


def counted(*times: float) -> Array:
    found: Array = np.array(times) @ SHARDS
    return found


def transposed(g: Array) -> Array:
    return np.concatenate([g[:35].reshape(7, 5).T.reshape(-1), g[35:]])


def flipped(g: Array) -> Array:
    bits = g.copy()
    bits.view(np.int64)[17] ^= 1 << 20
    return bits


def of_each_rank(keep: Callable[[Array], Array]) -> Array:
    found: Array = np.sum([np.where(keep(part), part, 0) for part in SHARDS], axis=0)
    return found


COUNTED = [
    (counted(1, 1, 0, 1), "shard-dropped: rank 2's part (shard 2) is missing"),
    (counted(2, 1, 1, 0), "shard-doubled: rank 0's part is counted twice, and rank 3's never"),
    (counted(1.2, 24 / 28, 24 / 36, 2), "mean-of-means: a mean of means"),  # N / (W n_s)
    (counted(0.25, 0.25, 0.25, 0.25), "divided-twice: "),
    (counted(24, 24, 24, 24), "sum-not-mean: "),
    (counted(-1, -1, -1, -1), "sign: "),
    (counted(0, 0, 0, 0), "reset-early: "),
    (counted(4, 0, 0, 0), "same-shard: "),
    (counted(0.3, 1, 1, 1), "shard-weights: the shards count (0.3, 1, 1, 1) times"),
]
ON_THE_WAY = [
    (RIGHT.astype(np.float16).astype(float), "float16: "),
    (RIGHT.astype(np.float32).astype(float), "float32: "),
    (RIGHT.byteswap(), "byte-order: "),
    (transposed(RIGHT), "transposed: "),
    (flipped(RIGHT), "bit-flip: one element is wrong, as after a flipped bit: dense1.W[3, 2]"),
    (np.where(PLACE < 20, RIGHT, 0), "truncated: "),
    (np.roll(RIGHT, 1), "bucket-offset: "),
    (np.where(PLACE < 35, RIGHT, 0), "bias-missing: "),
    (np.concatenate([RIGHT[35:], RIGHT[:35]]), "parameter-order: "),
    (np.where(PLACE < 35, RIGHT, 2 * RIGHT), "tied-twice: the gradient of dense1.b is counted"),
    ((SHARDS[0] + SHARDS[3]) + (SHARDS[1] + SHARDS[2]), "arrival-order: "),
    (of_each_rank(lambda g: np.abs(g) >= 0.3), "elements-dropped: numbers of ranks' parts are"),
    (np.where(abs(PLACE - 28) > 8, RIGHT, counted(1, 0, 1, 1)),
     "shard-dropped: elements 20 to 36, in dense1.W (15 of 35), dense1.b (2 of 5): rank 1's part"),
]  # fmt: skip
MIXED = np.where(PLACE < 20, WEIGHTS, WEIGHTS_BEFORE)
NARROW = WEIGHTS.astype(np.float16).astype(float)
NOW, THEN = at(WEIGHTS), at(WEIGHTS_BEFORE)
IN_A_RUN = [
    (np.delete(NOW, 1, axis=0).sum(axis=0) + at(NARROW)[1],
     "weights-rounded: rank 1's part (shard 1) is computed with weights rounded to float16"),
    (at(MIXED).sum(axis=0),
     "stale-weights: the gradient is computed with the weights of the step before in bucket 1"),
    (NOW.sum(axis=0) + THEN.sum(axis=0), "not-reset: the gradient is added to that of"),
    (NOW.sum(axis=0) - NOW[1] + THEN[1], "race: rank 1's part (shard 1) is that of the step"),
    (np.where(PLACE < 20, 0.3 * NOW[0], 0.7 * NOW[2]),
     "shard-weights: elements 0 to 19, bucket 0, in dense1.W (20 of 35): the shards count (0.3, "),
    (np.roll(WEIGHTS, 7),
     "race: elements 7 to 39 hold the weights, from its element 0 on; elements 0 to 6 hold"),
]  # fmt: skip


def in_short(each: Any) -> str:
    return each if isinstance(each, str) else ""


def named(found: Evidence) -> str:
    first = diagnose(found)[0]
    return f"{first.kind}: {first.sentence}"


@pytest.mark.parametrize(("found", "said"), COUNTED + ON_THE_WAY, ids=in_short)
def test_what_happens_to_the_parts_of_a_step(found: Array, said: str) -> None:
    assert named(evidence(found)).startswith(said)


@pytest.mark.parametrize(("found", "said"), IN_A_RUN, ids=in_short)
def test_what_is_left_of_the_step_before(found: Array, said: str) -> None:
    assert named(of_a_run(found)).startswith(said)


def test_a_number_where_there_is_none() -> None:
    shards = SHARDS.copy()
    shards[2, 3] = np.nan
    total = shards.sum(axis=0)
    wrong = replace(evidence(np.nan_to_num(total)), right=total, shards=shards)
    assert named(wrong).startswith("nan-swallowed")


def test_nothing_is_named_where_nothing_explains_it() -> None:
    (only,) = diagnose(evidence(np.random.default_rng(9).standard_normal(40)))
    assert (only.kind, only.residual) == ("unexplained", 1.0)


def test_what_cannot_be_predicted_ends_nothing_else() -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    wrong = evidence(counted(1, 0, 1, 1) + 0.5 * SHARDS[2], parts=broken, parameters=WEIGHTS)

    def also() -> Any:
        yield Known(Mistake("broken", "{} cannot be predicted", Recipe(sent=broken)))
        yield Known(Mistake("right", "it is this", Recipe(sent=lambda *_: wrong.found)))

    assert diagnose(wrong, also())[0].kind == "right"
    assert diagnose(replace(wrong, rows=broken))[0].kind == "shard-weights"


W, V = np.array([1.0, -2.0, 3.0]), np.array([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("weights", "slots", "said"),
    [
        (0 * W, [0 * V], "all are 0: they were never written"),
        (0 * W, [], "all are 0: they were never written"),
        (W, [V], "Neither the weights nor the optimizer's state moved in step 5"),
        (W, [2 * V], ""),
        (W, [], ""),
        (W * [0, 0, 1], [V], ""),
    ],
)
def test_what_was_not_written_is_named(weights: Array, slots: list[Array], said: str) -> None:
    before = TrainingState(W, [V] if slots else [])
    step = Step(4, 0.0, before, TrainingState(weights, slots))
    found = unwritten(step, np.ones(3, bool))
    assert [each.kind for each in found] == ["update-skipped"] * bool(said)
    assert all(said in each.sentence for each in found)
    some = np.array([True, True, False])  # what is right is not looked at
    assert bool(unwritten(step, some)) == (bool(said) or not weights[0])


def test_the_zoo_lets_bugs_loose_in_real_workers() -> None:
    """The whole zoo is a command of its own, which CI runs; here is one of each outcome."""
    told: list[Any] = []
    names = ["shard-dropped", "adam-step", "no-decay-multiplied"]
    zoo = run_zoo(told.append, names)
    assert [each.bug.name for each in told] == names
    assert [each.killed for each in zoo.caught] == [True, True, False]
    assert all(each.right for each in zoo.caught)
    assert zoo.good
