"""What is not named as the cause of a wrong gradient of a network of the user's own."""

import numpy as np

from dptrain.gradcheck.comparison import Entry, TensorResult, entry
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.hypotheses.own import hypotheses


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
