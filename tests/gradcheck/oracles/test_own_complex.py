"""The complex step through somebody's code: where it can be trusted, and where a tie is."""

from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.oracles.own_complex import OwnComplexStep
from dptrain.gradcheck.oracles.projections import by_differences

X = np.array([0.0, -1.5, 2.0])


class Code:
    """In place of a job: its loss is a function of three weights, in one shard."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def complex_losses(self, parameters: Any, step: int) -> Any:  # noqa: ARG002 - as of a job
        return np.array([self.function(parameters)])


def relu(x: Any) -> Any:
    y = x.copy()
    y[x <= 0] = 0
    return (y * np.array([1.0, 2.0, 3.0])).sum() + (x**2).sum()


def step_of(function: Any) -> OwnComplexStep:
    return OwnComplexStep(Code(function), X, 0)  # type: ignore[arg-type]


def test_a_tie_is_found_and_nothing_is_known_there() -> None:
    own = step_of(relu)
    gradient = own.gradients([0, 1, 2])
    assert gradient is not None
    np.testing.assert_allclose(gradient[0], [1, -3, 7])
    assert own.tied([0, 1, 2], gradient[0]).tolist() == [0]
    oracle = own.oracle()
    assert oracle(np.array([1.0, 0.0, 0.0])).error == np.inf
    assert oracle(np.array([0.0, 1.0, -1.0])).error == 0
    assert oracle(np.array([0.0, 1.0, -1.0])).value == pytest.approx(-10)


@pytest.mark.parametrize(
    ("function", "agrees"),
    [
        (relu, True),
        (lambda x: relu(x) + 1e-3 * np.abs(x[1]), False),  # np.abs drops the imaginary part
        (lambda x: relu(x) + abs(x[2].real), False),
        (lambda x: relu(x.conj()), False),
    ],
)
def test_code_is_trusted_only_as_far_as_differences_agree(function: Any, agrees: bool) -> None:
    own = step_of(function)
    differences = by_differences(lambda x: float(np.real(function(x))), X, 1e-15)
    random = np.random.default_rng(0)
    tries = [[random.standard_normal(3) * place for _ in range(2)] for place in np.eye(3)[1:]]
    assert (own.agreeing(tries, differences) is not None) == agrees


def test_a_kink_that_differences_take_for_none_does_not_disown_the_code() -> None:
    """One direction may be told wrongly; the second decides."""
    own = step_of(relu)
    good = by_differences(lambda x: float(relu(x)), X, 1e-15)
    wrong = iter([1.0, 0.0])
    tries = [[np.array([0.0, 1.0, 0.0]), np.array([0.0, -2.0, 0.0])]]

    def differences(direction: Any) -> Any:
        found = good(direction)
        return found._replace(value=found.value + next(wrong))

    assert own.agreeing(tries, differences) is not None
