"""Moved images: against slices, NumPy's quarter turns, analytic ramps and a slow definition."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.data.warping import PART_PIXELS, TURN_STEPS, Rotation, Shift, part_rows

SHAPES = [(5, 7), (6, 6, 1), (4, 5, 3)]
DTYPES = [np.float32, np.float64]
Image = NDArray[Any]


def images(count: int, shape: tuple[int, ...], dtype: Any = np.float32) -> Image:
    return np.random.default_rng(7).random((count, *shape)).astype(dtype)


def whole(*values: int) -> NDArray[np.intp]:
    return np.array(values, np.intp)


def shifted(image: Image, down: int, right: int) -> Image:
    """Roll, then black out what came in at the other side."""
    found = np.roll(image, (down, right), axis=(0, 1))
    found[: max(0, down)] = found[len(found) + min(0, down) :] = 0
    found[:, : max(0, right)] = found[:, found.shape[1] + min(0, right) :] = 0
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shifts_are_those_of_roll_without_what_comes_round(
    shape: tuple[int, ...], dtype: Any
) -> None:
    down, right = (each.ravel() for each in np.mgrid[-3:4, -3:4])
    x = images(49, shape, dtype)
    moved = x.copy()
    shift = Shift(shape, 3, np.dtype(dtype))
    for _ in range(2):  # nothing of the first time is left in the buffers
        moved[...] = x
        shift.apply(moved, down, right)
        expected = [shifted(*each) for each in zip(x, down, right, strict=True)]
        np.testing.assert_array_equal(moved, expected, strict=True)


def bilinear(image: Image, angle: float, down: int, right: int) -> Image:
    """The definition, in float64, pixel by pixel: rotate about the middle, then shift."""
    height, width = image.shape[:2]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    found = np.zeros(image.shape)

    def value(y: int, x: int) -> Any:
        inside = 0 <= y < height and 0 <= x < width
        return image[y, x].astype(np.float64) if inside else 0.0

    for row in range(height):
        for column in range(width):
            v, u = row - middle_y - down, column - middle_x - right
            y = math.sin(angle) * u + math.cos(angle) * v + middle_y
            x = math.cos(angle) * u - math.sin(angle) * v + middle_x
            top, left = math.floor(y), math.floor(x)
            for i, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
                for j, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
                    found[row, column] += weight_y * weight_x * value(i, j)
    return found


@given(
    st.sampled_from(SHAPES),
    st.sampled_from([5.0, 30.0, 180.0]),
    st.integers(-TURN_STEPS, TURN_STEPS),
    st.integers(-8, 8),
    st.integers(-8, 8),
)
def test_rotations_are_bilinear_interpolation(
    shape: tuple[int, ...], limit: float, turn: int, down: int, right: int
) -> None:
    x = images(1, shape, np.float64)
    expected = bilinear(x[0], math.radians(limit) * turn / TURN_STEPS, down, right)
    Rotation(shape, limit, x.dtype).apply(x, whole(turn), whole(down), whole(right))
    np.testing.assert_allclose(x[0], expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_turn_all_bits_stay(shape: tuple[int, ...], dtype: Any) -> None:
    x = images(3, shape, dtype)
    same, moved, none = x.copy(), x.copy(), whole(0, 0, 0)
    rotation = Rotation(shape, 15.0, x.dtype)
    rotation.apply(same, none, none, none)
    np.testing.assert_array_equal(same, x, strict=True)
    down, right = whole(1, 0, -2), whole(-1, 3, 0)
    rotation.apply(moved, none, down, right)
    expected = [shifted(*each) for each in zip(x, down, right, strict=True)]
    np.testing.assert_array_equal(moved, expected, strict=True)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize(("turn", "quarters"), [(1, 1), (-1, -1), (2, 2)])
def test_quarter_turns_are_exact(size: int, turn: int, quarters: int) -> None:
    x = images(1, (size, size))
    expected = np.rot90(x[0], quarters).copy()
    limit = 90.0 * abs(turn)
    turns = whole(TURN_STEPS if turn > 0 else -TURN_STEPS)
    Rotation((size, size), limit, x.dtype).apply(x, turns, whole(0), whole(0))
    np.testing.assert_allclose(x[0], expected, atol=1e-6)


def test_ramps_stay_ramps_away_from_the_edges() -> None:
    v, u = np.mgrid[-10:11, -10:11].astype(np.float32)
    x = np.stack([u, v, 2 * u - v + 3])
    Rotation((21, 21), 20.0, x.dtype).apply(x, whole(*[TURN_STEPS] * 3), *[whole(0, 0, 0)] * 2)
    cos, sin = math.cos(math.radians(20)), math.sin(math.radians(20))
    from_u, from_v = cos * u - sin * v, sin * u + cos * v
    inner = (..., slice(4, 17), slice(4, 17))
    expected = np.stack([from_u, from_v, 2 * from_u - from_v + 3])
    np.testing.assert_allclose(x[inner], expected[inner], atol=1e-5)


@given(st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.integers(1, 7), st.integers(0, 99))
def test_an_image_has_the_same_bits_in_any_company(
    shape: tuple[int, ...], dtype: Any, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    turns = random.integers(-TURN_STEPS, TURN_STEPS + 1, count)
    down, right = random.integers(-2, 3, (2, count))
    x = images(count, shape, dtype)
    for kind in (Rotation(shape, 40.0, x.dtype), Shift(shape, 2, x.dtype)):
        together = x.copy()
        places = [turns, down, right] if isinstance(kind, Rotation) else [down, right]
        kind.apply(together, *places)
        for i in range(count):
            alone = x[i : i + 1].copy()
            kind.apply(alone, *[each[i : i + 1] for each in places])
            assert alone.tobytes() == together[i].tobytes()


def test_parts_are_of_one_image_at_least() -> None:
    assert part_rows((28, 28)) == PART_PIXELS // 784
    assert part_rows((1000, 1000, 3)) == 1
