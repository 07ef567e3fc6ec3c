"""Differences of arrays, to the bit."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.audit.difference import difference, same_bits


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_no_difference(dtype: type) -> None:
    array: NDArray[Any] = np.arange(12).reshape(3, 4).astype(dtype)
    assert same_bits(array, array.copy())
    assert difference(array[:, ::2], array.copy()[:, ::2]) is None
    assert not same_bits(array, array.reshape(4, 3))
    assert not same_bits(array, array.astype(np.float16))


def test_the_largest_and_where_it_is() -> None:
    one = np.zeros((3, 4), np.float32)
    other = one.copy()
    other[1, 2], other[2, 0] = 0.25, -0.5
    found = difference(one, other)
    assert found is not None
    assert found == (2, 12, 0.5, (2, 0), (0.0, -0.5))
    assert str(found) == "2 of 12 elements, by up to 0.5 at [2, 0]: 0 and -0.5"


def test_what_is_no_number() -> None:
    one = np.array([1.0, np.nan, np.inf])
    assert difference(one, one.copy()) is None
    found = difference(one, np.array([5.0, 1.0, np.inf]))
    assert found is not None
    assert (found.elements, found.largest, found.at) == (2, np.inf, (1,))


def test_zeros_of_two_signs() -> None:
    found = difference(np.array([1.0, 0.0]), np.array([1.0, -0.0]))
    assert found is not None
    assert (found.elements, found.largest, found.at) == (1, 0.0, (1,))


def test_single_values() -> None:
    found = difference(np.array(0.001), np.array(0.002))
    assert found is not None
    assert found.at == ()
    assert str(found) == "0.001 and 0.002"
