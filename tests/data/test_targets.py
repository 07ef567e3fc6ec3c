"""Targets: labels, one-hot rows and numbers to predict are told apart, and checked."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.data.targets import normalise_targets
from dptrain.errors import DataError

FLOAT32 = np.dtype(np.float32)
ONE_HOT = np.eye(3)[[2, 0, 1]]
NUMBERS = np.array([[0.5, 1.0], [2.0, 3.0]])


@pytest.mark.parametrize("kind", ["u1", "i1", ">i8", "u8"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_whole_numbers_are_class_labels(kind: str, shape: tuple[int, ...]) -> None:
    found = normalise_targets(np.array([0, 3, 1, 1], kind).reshape(shape), None, FLOAT32)
    np.testing.assert_array_equal(found.train, np.array([0, 3, 1, 1]), strict=True)
    assert (found.test, found.classes) == (None, 4)


def test_signs_are_two_classes() -> None:
    found = normalise_targets(np.array([-1, 1, 1]), np.array([[1], [-1]]), FLOAT32)
    assert found.train.tolist() == [0, 1, 1]
    assert found.test is not None
    assert found.test.tolist() == [1, 0]
    assert (found.classes, found.names) == (2, ("-1", "1"))


def test_booleans_are_two_classes() -> None:
    assert normalise_targets(np.array([True, False]), None, FLOAT32).train.tolist() == [1, 0]


@pytest.mark.parametrize("kind", ["?", "i4", "f4", "f8"])
def test_one_hot_rows_are_class_labels(kind: str) -> None:
    found = normalise_targets(ONE_HOT.astype(kind), ONE_HOT[:1].astype(kind), FLOAT32)
    np.testing.assert_array_equal(found.train, np.array([2, 0, 1]), strict=True)
    np.testing.assert_array_equal(found.test, np.array([2]), strict=True)
    assert found.classes == 3


def test_one_hot_rows_fix_the_classes_even_if_the_last_has_no_row() -> None:
    assert normalise_targets(np.eye(4)[[0, 1]], None, FLOAT32).classes == 4


def test_floats_are_regression_targets() -> None:
    found = normalise_targets(np.array([1.0, 2.0, 0.0]), np.array([1.0]), FLOAT32)
    np.testing.assert_array_equal(
        found.train, np.array([[1.0], [2.0], [0.0]], np.float32), strict=True
    )
    np.testing.assert_array_equal(found.test, np.array([[1.0]], np.float32), strict=True)
    assert found.classes == 0


def test_the_training_part_decides_what_the_test_part_is() -> None:
    found = normalise_targets(NUMBERS, np.array([[0.0, 1.0]]), FLOAT32)
    np.testing.assert_array_equal(found.test, np.array([[0.0, 1.0]], np.float32), strict=True)


@pytest.mark.parametrize(
    ("train", "test", "problem"),
    [
        (np.array([0, -2, -3]), None, "t_train holds the label -2 in row 1 .*from 0 upwards"),
        (np.array([-1, -1]), None, r"-1 in row 0 .* 0 upwards"),
        (np.array([-1, 1]), np.array([0]), "t_test has other labels than -1 and 1"),
        (np.array([-1, 0, 1]), None, "-1 in row 0 .* from 0 upwards$"),
        (np.array([[1, 0, 1]]), None, r"cannot be trained on.*; t.astype\(float\) makes .* 1s"),
        (np.array([[True, True]]), None, r"cannot be trained on.*; t.astype\(float\) makes"),
        (np.array([0, 1]), np.array([1, 2]), "t_test holds the label 2 in row 1 .*from 0 to 1"),
        (np.array([0, 1]), np.array([-1]), "t_test holds the label -1 in row 0"),
        (np.array([0, 10**9]), None, "labels up to 1000000000, which would make 1000000001"),
        (np.array([0, 1]), np.array([0.0]), "t_test of dtype float64 and shape .1,. does not go"),
        (
            ONE_HOT,
            np.array([0, 1]),
            r"t_test has shape \(2,\), but t_train holds one-hot rows of 3",
        ),
        (ONE_HOT, np.eye(2), r"t_test has shape \(2, 2\)"),
        (ONE_HOT, np.ones((1, 3)), r"t_test holds \[1. 1. 1.\] in row 0 .*not one-hot"),
        (NUMBERS, np.array([1.0]), "a row of t_test has 1 values, but a row of t_train 2"),
        (NUMBERS, np.array([[0, 1]]), "t_test of dtype int64"),
        (np.array([[1, 2], [3, 4]]), None, "t_train of dtype int64 and shape .2, 2. cannot be"),
        (np.zeros((2, 2, 2)), None, r"shape \(2, 2, 2\) cannot be trained on"),
        (np.array([0.5, np.nan]), None, "t_train holds nan in row 1 "),
        (np.array([[0.5, np.inf]]), None, "t_train holds inf in row 0, column 1 "),
        (NUMBERS, np.array([[1.0, np.nan]]), "t_test holds nan in row 0, column 1 "),
        (np.array([0.5, 1e300]), None, "too large for float32"),
    ],
)
def test_what_cannot_be_trained_on_is_named(
    train: NDArray[Any], test: NDArray[Any] | None, problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        normalise_targets(train, test, FLOAT32)


def test_many_classes_are_believed_of_many_rows() -> None:
    assert normalise_targets(np.arange(2000), None, FLOAT32).classes == 2000
    assert normalise_targets(np.array([999]), None, FLOAT32).classes == 1000
