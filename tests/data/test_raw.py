"""Arrays that do not fit each other, or hold no numbers."""

from typing import Any

import numpy as np
import pytest

from dptrain.data.raw import RawData, check_raw
from dptrain.errors import DataError

X = np.zeros((4, 3))
T = np.zeros(4, np.int64)


@pytest.mark.parametrize("kind", ["?", "u1", "i2", "f2", "f4", ">f8", "g"])
def test_numbers_and_booleans_are_fine(kind: str) -> None:
    check_raw(RawData(X.astype(kind), T, X[:1].astype(kind), T[:1]))
    check_raw(RawData(X, T.astype(kind)))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ((X.astype(object), T), "x_train has dtype object"),
        ((X, np.array(["a"] * 4)), "t_train has dtype <U1"),
        ((X.astype(complex), T), "x_train has dtype complex128"),
        ((X, T.astype("M8[s]")), "t_train has dtype datetime64"),
        ((np.array(1.0), T), "x_train is a single value"),
        ((X, np.array(1)), "t_train is a single value"),
        ((X[:0], T[:0]), r"x_train is empty: its shape is \(0, 3\)"),
        ((X[:, :0], T), r"x_train is empty: its shape is \(4, 0\)"),
        ((X, np.zeros((4, 0))), "t_train is empty"),
        ((X, T[:3]), "x_train has 4 rows, but t_train has 3"),
        ((X, T, X, T[:3]), "x_test has 4 rows, but t_test has 3"),
        ((X, T, X[:0], T[:0]), "x_test is empty"),
        ((X, T, X), "t_test is missing"),
        ((X, T, None, T), "x_test is missing"),
        ((X, T, X[:, :2], T), r"x_test has shape \(2,\), but a row of x_train \(3,\)"),
        ((X, T, X.astype(np.uint8), T), "only uint8 is divided by 255"),
    ],
)
def test_what_does_not_fit_is_named(arrays: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        check_raw(RawData(*arrays))
