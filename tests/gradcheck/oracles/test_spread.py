"""Elements spread over processes: the same numbers, whatever becomes of the others."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.gradcheck.oracles import spread as module
from dptrain.gradcheck.oracles.spread import FEWEST, spread

Array = NDArray[Any]
HERE = os.getpid()
MANY = list(range(7, 7 + 3 * FEWEST + 1))


def squares(indices: Sequence[int]) -> Array:
    return np.array([[i, i * i, os.getpid()] for i in indices], float)


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_every_element_has_its_own_numbers_from_as_many_processes(cores: int) -> None:
    found = spread(squares, MANY, cores)
    assert found is not None
    np.testing.assert_array_equal(found[:, :2], squares(MANY)[:, :2])
    assert len(np.unique(found[:, 2])) == min(cores, 3)


def test_few_elements_are_computed_here() -> None:
    found = spread(squares, MANY[: 2 * FEWEST - 1], 8)
    assert found is not None
    assert np.unique(found[:, 2]) == [HERE]


def _killed() -> None:
    os.kill(os.getpid(), 9)


def _failed() -> None:
    raise ValueError("in the other process")


def _stuck() -> None:
    time.sleep(600)


@pytest.mark.parametrize("end", [_killed, _failed, _stuck])
def test_what_another_process_does_not_compute_is_computed_here(
    end: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MORE", 0.1)

    def compute(indices: Sequence[int]) -> Array:
        if os.getpid() != HERE:
            end()
        return squares(indices)

    found = spread(compute, MANY, 3)
    assert found is not None
    np.testing.assert_array_equal(found, squares(MANY))


def test_what_cannot_be_computed_is_none() -> None:
    assert spread(lambda _: None, MANY, 3) is None
