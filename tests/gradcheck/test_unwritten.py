"""Steps that nobody wrote: new memory, or all as it was."""

import numpy as np
import pytest

from dptrain.exchange.engine import State
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.hypotheses.buffers import unwritten

W, V = np.array([1.0, -2.0, 3.0]), np.array([0.1, 0.2, 0.3])
ALL = np.ones(3, bool)


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
def test_what_was_not_written_is_named(
    weights: np.ndarray, slots: list[np.ndarray], said: str
) -> None:
    before = State(W, [V] if slots else [])
    found = unwritten(Step(4, 0.0, before, State(weights, slots)), ALL)
    assert [each.kind for each in found] == ["update-skipped"] * bool(said)
    assert all(said in each.sentence for each in found)


def test_only_what_is_wrong_is_looked_at() -> None:
    step = Step(0, 0.0, State(W, []), State(W * [0, 0, 1], []))
    assert unwritten(step, np.array([True, True, False]))
