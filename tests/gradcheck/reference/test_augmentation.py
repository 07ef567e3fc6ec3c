"""The reference of augmentation: draws are what they are said to be, moves by other means."""

import math

import numpy as np
import pytest

from dptrain.gradcheck.reference.augmentation import TURNS, Draws, Moves, moved, quantiles

STEPS = 60
SHARDS = (3, 2)


def draws(shift: int = 0, rotate: float = 0.0, deviation: float = 0.0) -> Draws:
    return Draws(7, shift, rotate, deviation, (30, 30))


def all_moves(of: Draws) -> Moves:
    found = [of.moves_of(step, SHARDS) for step in range(STEPS)]
    return Moves(*(np.concatenate(list(parts)) for parts in zip(*found, strict=True)))


def test_noise_is_normal_and_never_the_same() -> None:
    of = draws(deviation=1.0)
    rows = np.concatenate(
        [of.noise(step, shard, n) for step in range(STEPS) for shard, n in enumerate(SHARDS)]
    ).reshape(-1, 900)
    assert len(np.unique(rows, axis=0)) == len(rows) == 5 * STEPS
    # the mean of n draws lies within 6.1 of its deviations but once in 1e9 seeds
    assert abs(rows.mean()) < 6.1 / math.sqrt(rows.size)
    assert abs(rows.var() - 1) < 6.1 * math.sqrt(2 / rows.size)
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 8 / math.sqrt(900)


def test_quantiles_are_those_of_the_normal_distribution() -> None:
    found = quantiles()
    assert found.dtype == np.float32
    assert found.shape == (2**16,)
    np.testing.assert_array_equal(found, -found[::-1])
    below = [math.erfc(-float(z) / math.sqrt(2)) / 2 for z in found[::1000]]
    np.testing.assert_allclose(below, (np.arange(2**16)[::1000] + 0.5) / 2**16, atol=2e-5)
    assert np.var(found.astype(float)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_shifts_reach_every_number_up_to_the_limit(limit: int) -> None:
    found = all_moves(draws(shift=limit))
    for shifts in (found.down, found.right):
        # of 300 draws from 9 numbers, one is missing in 1 of 1e15 seeds
        assert set(shifts) == set(range(-limit, limit + 1))
    assert (found.angle == 0).all()
    assert not np.array_equal(found.down, found.right)


def test_angles_fill_the_range() -> None:
    found = all_moves(draws(rotate=20.0))
    parts = np.degrees(found.angle) / 20 * TURNS
    np.testing.assert_allclose(parts, np.round(parts), atol=1e-9)
    assert -TURNS <= parts.min() < -0.95 * TURNS
    assert 0.95 * TURNS < parts.max() <= TURNS
    assert (found.down == 0).all()


def move(down: float = 0, right: float = 0, angle: float = 0) -> Moves:
    return Moves(*(np.array([each], float) for each in (down, right, angle)))


def test_shifts_are_slices() -> None:
    x = np.random.default_rng(0).random((1, 5, 7, 2))
    wanted = np.zeros_like(x)
    wanted[:, 2:, :-3] = x[:, :-2, 3:]
    np.testing.assert_array_equal(moved(x, move(down=2, right=-3)), wanted)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_numpys(quarters: int) -> None:
    x = np.random.default_rng(0).random((1, 6, 6))
    found = moved(x, move(angle=quarters * math.pi / 2))
    np.testing.assert_allclose(found[0], np.rot90(x[0], quarters), atol=1e-12)


def test_a_plane_stays_a_plane_where_it_is_turned() -> None:
    rows, columns = np.indices((21, 21)) - 10.0
    found = moved((2 * columns - rows)[np.newaxis], move(angle=0.4))[0]
    wanted = 2 * (math.cos(0.4) * columns - math.sin(0.4) * rows)
    wanted -= math.sin(0.4) * columns + math.cos(0.4) * rows
    np.testing.assert_allclose(found[5:16, 5:16], wanted[5:16, 5:16], atol=1e-12)
