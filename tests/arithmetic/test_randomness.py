"""Streams keyed by meaning: fixed for ever, and different for different meanings."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.arithmetic.randomness import Purpose, SteppedNormal, SteppedUniform, generator
from dptrain.errors import UsageError

Key = tuple[int, Purpose, tuple[int, ...]]

KEYS = st.tuples(
    st.integers(0, 2**64 - 1),
    st.sampled_from(Purpose),
    st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
)


def words(key: Key) -> list[int]:
    seed, purpose, parts = key
    drawn: list[int] = generator(seed, purpose, *parts).integers(0, 2**64, 4, np.uint64).tolist()
    return drawn


def test_the_purposes_keep_their_numbers() -> None:
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "SHUFFLE": 1,
        "SPLIT": 2,
        "INITIAL_WEIGHTS": 3,
        "DROPOUT": 4,
        "AUGMENTATION": 5,
        "FINGERPRINT": 6,
        "SEARCH": 7,
        "OWN_CODE": 8,
    }


GOLDEN: list[tuple[Key, list[int]]] = [
    (
        (0, Purpose.SHUFFLE, ()),
        [12441188205270234579, 8834087402389068706, 5718262333018195187, 8718541290919479255],
    ),
    (
        (0, Purpose.SHUFFLE, (0,)),
        [16146580426485601214, 15144175059968440162, 11743552852272198163, 6877017684042565602],
    ),
    (
        (1, Purpose.SPLIT, (1,)),
        [6661174643155770020, 18396570279626124206, 14622603499951982353, 4081591725645019632],
    ),
    (
        (2**64 - 1, Purpose.DROPOUT, (3, 2**32 - 1, 5)),
        [12868413759096504094, 10966516978408297947, 14642655537329826470, 5271193488063374824],
    ),
    (
        (42, Purpose.AUGMENTATION, (0, 0, 0)),
        [1066046859506844538, 12528843374806230256, 3634477324026668138, 5476311694884238084],
    ),
]


@pytest.mark.parametrize(("key", "expected"), GOLDEN)
def test_the_streams_never_change(key: Key, expected: list[int]) -> None:
    assert words(key) == expected


def test_the_distributions_never_change() -> None:
    assert generator(0, Purpose.INITIAL_WEIGHTS, 1).standard_normal(3).tolist() == [
        -0.019941393936240184,
        -0.8220282730200891,
        1.4229045949083534,
    ]
    assert generator(0, Purpose.DROPOUT, 1).random(3, np.float32).tolist() == [
        0.6257382035255432,
        0.22938072681427002,
        0.8803406357765198,
    ]
    assert generator(0, Purpose.SHUFFLE, 1).permutation(8).tolist() == [5, 1, 2, 4, 3, 6, 0, 7]


def test_the_stream_is_that_of_philox_under_a_spawned_seed_sequence() -> None:
    child = np.random.SeedSequence(9).spawn(5)[Purpose.DROPOUT]
    expected = np.random.Generator(np.random.Philox(child))
    assert generator(9, Purpose.DROPOUT).random(5).tolist() == expected.random(5).tolist()


@given(KEYS)
def test_the_same_key_gives_the_same_stream(key: Key) -> None:
    assert words(key) == words(key)


@given(KEYS, KEYS)
def test_different_keys_give_different_streams(one: Key, other: Key) -> None:
    assert (one == other) == (words(one) == words(other))


@given(KEYS, st.integers(1, 6))
def test_zeros_at_the_end_of_a_key_count(key: Key, zeros: int) -> None:
    seed, purpose, parts = key
    assert words(key) != words((seed, purpose, (*parts, *[0] * zeros)))


def test_short_keys_do_not_collide() -> None:
    """SeedSequence pads short entropy with zeros: the reason for the spawn key."""
    keys = [
        (seed, purpose, parts)
        for seed in (0, 1, 2, 2**32, 2**32 + 1, 2**64 - 1)
        for purpose in Purpose
        for length in range(4)
        for parts in itertools.product((0, 1, 2**32 - 1), repeat=length)
    ]
    assert len({tuple(words(key)) for key in keys}) == len(keys)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range(seed: int) -> None:
    with pytest.raises(UsageError, match=f"seed={seed} must be a whole number from 0 to 1844"):
        generator(seed, Purpose.SPLIT)


@pytest.mark.parametrize("part", [-1, 2**32])
def test_parts_of_a_key_out_of_range(part: int) -> None:
    with pytest.raises(AssertionError):
        generator(0, Purpose.SPLIT, part)


def test_normal_numbers_are_those_of_the_distribution() -> None:
    found = np.empty(100_000, np.float32)
    SteppedNormal(5, Purpose.AUGMENTATION, 1).fill(3, found)
    assert abs(found.mean(dtype=np.float64)) < 4 / math.sqrt(found.size)
    assert abs(found.var(dtype=np.float64) - 1) < 4 * math.sqrt(2 / found.size)
    # Kolmogorov and Smirnov's distance exceeds 1.95 / sqrt(n) once in 1000 seeds
    expected = [statistics.NormalDist().cdf(float(each)) for each in np.sort(found)]
    distance = np.abs(expected - (np.arange(found.size) + 0.5) / found.size).max()
    assert distance < 1.95 / math.sqrt(found.size)


@given(st.integers(1, 41), st.integers(0, 2**40), st.sampled_from([SteppedNormal, SteppedUniform]))
def test_a_step_has_its_own_numbers_whatever_was_drawn_before(
    size: int, step: int, kind: type[SteppedNormal | SteppedUniform]
) -> None:
    fresh, again, other = np.empty((3, size), np.float32)
    kind(1, Purpose.AUGMENTATION, 2).fill(step, fresh)
    used = kind(1, Purpose.AUGMENTATION, 2)
    used.fill(step + 1, other)
    used.fill(step, again)
    assert again.tobytes() == fresh.tobytes()
    assert (size < 4) or other.tobytes() != fresh.tobytes()
