"""What is not named as the cause of a wrong gradient of a network of the user's own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import Entry, TensorResult, entry
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.hypotheses.own import hypotheses

Array = NDArray[Any]


def test_rounding_is_no_factor_and_a_direction_no_element() -> None:
    tensors = [entry("W1", (4, 5)), entry("b1", (5,), 20)]
    right = np.random.default_rng(0).standard_normal(25)
    found = right * (1 - 4.6e-14 * np.random.default_rng(1).random(25))
    evidence = Evidence(tensors, found, right, right[None], (13,), ((0, 1),), 13)
    along = Entry((), -0.289, -0.286, 5e-4)
    failed = [TensorResult("W1", 20, 11, 0, 2, along, (1e-9, 1e-9))]
    told = [each.sentence for each in hypotheses(evidence, failed)]
    assert not any("[]" in each or "W1 is 1 -" in each for each in told)
    assert "the gradient of W1 is wrong, that of b1 right" in told


def best(found: Array, right: Array, rows: Array) -> str:
    """Return the sentence that leaves least of a gradient of W1 (4, 5) and b1 (5,) unexplained."""
    tensors = [entry("W1", (4, 5)), entry("b1", (5,), 20)]
    evidence = Evidence(
        tensors, found, right, right[None], (len(rows),), ((0, 1),), 6, rows=lambda: (rows, [0] * 6)
    )
    failed = [TensorResult(t.name, 20, 20, 0, 20, None, (1e-9, 1e-9)) for t in tensors]
    told = hypotheses(evidence, failed)
    return min(told, key=lambda each: evidence.residual(each.predicted)).sentence


def test_a_row_that_is_left_out_is_named() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 25))
    right = rows.sum(axis=0)
    said = best((right - rows[3]) * 6 / 5, right, rows)
    assert said.startswith("rows count otherwise: row 3 ")
    assert said.endswith(" the others 1.2 times")


def test_a_column_of_zeros_is_named() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 25))
    right = rows.sum(axis=0)
    found = right.copy()
    found[4:20:5] = 0
    assert best(found, right, rows) == "W1[:, 4] is 0 where it should not be"
