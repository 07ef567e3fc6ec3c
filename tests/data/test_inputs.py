"""Inputs: grey values scaled, numbers cast, the first bad value named."""

import numpy as np
import pytest

from dptrain.data.inputs import normalise_inputs
from dptrain.errors import DataError

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_bytes_are_divided_by_255_in_the_dtype_of_the_run(dtype: np.dtype[np.floating]) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(2, 128)
    found = normalise_inputs(values, dtype)
    expected = np.array([dtype.type(v) / dtype.type(255) for v in range(256)]).reshape(2, 128)
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("kind", ["?", "i1", ">i4", "f2", ">f8"])
def test_other_numbers_are_cast(kind: str) -> None:
    found = normalise_inputs(np.array([[0, 1, 1]]).astype(kind), FLOAT32)
    np.testing.assert_array_equal(found, np.array([[0, 1, 1]], np.float32), strict=True)


def test_images_keep_their_shape_and_single_values_become_columns() -> None:
    assert normalise_inputs(np.zeros((2, 5, 4), np.uint8), FLOAT32).shape == (2, 5, 4)
    assert normalise_inputs(np.zeros(3), FLOAT64).shape == (3, 1)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        (np.array([[0, 1], [2, np.nan], [np.inf, 0]]), "nan in row 11, column 1 "),
        (np.array([0, -np.inf]), "-inf in row 11 "),
        (np.array([[[0, 1], [1, np.inf]]]), "inf in row 10, column 1, 1 "),
        (np.array([[0.0, 1e300]]), "1e[+]300 in row 10, column 1 .*too large for float32"),
    ],
)
def test_the_first_value_that_is_not_finite_is_named(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], where: str
) -> None:
    with pytest.raises(DataError, match="images holds " + where):
        normalise_inputs(values, FLOAT32, name="images", first_row=10)
