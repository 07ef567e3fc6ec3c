"""Evaluations against the formulas: right ones, and the mistakes that people make."""

from typing import Any

import numpy as np
import pytest

from dptrain.exchange.inline import InlineEngine
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.evaluation import check_score, expected, right_answers
from dptrain.gradcheck.verdict import Verdict
from tests.exchange.build import Data
from tests.gradcheck.build import FLAT, dense, experiment, weights
from tests.gradcheck.build import data as data
from tests.gradcheck.slips import Slip

NORMED = [FLAT, dense(6), {"layer": "batchnorm"}, {"layer": "relu"}, dense(3)]
DROPPED = [FLAT, dense(6), {"layer": "dropout", "rate": 0.5}, dense(3)]


def checked(data: Data, **changes: Any) -> Comparison:
    job = data.job(experiment(**changes))
    w = weights(job).astype(job.dtype)
    for tensor in job.network.all_tensors():
        if tensor.name.endswith("running_variance"):
            w[tensor.start : tensor.stop] = 0.3 + np.arange(tensor.stop - tensor.start)
    engine = InlineEngine(job, w, [])
    found = check_score(job, engine.evaluate("train"), w, np.arange(len(job.dataset.train)), "here")
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "changes",
    [
        {"layers": NORMED},
        {"layers": DROPPED, "label_smoothing": 0.1},
        {"layers": [FLAT, dense(3)], "loss": "hinge"},
        {"dataset": "regression", "layers": [FLAT, dense(2)], "loss": "huber"},
    ],
    ids=["norm", "dropout", "hinge", "regression"],
)
def test_an_evaluation_is_that_of_the_formulas(
    changes: dict[str, Any], dtype: str, data: Data
) -> None:
    found = checked(data, dtype=dtype, **changes)
    assert found.verdict is Verdict.PASS
    assert [t.tensor for t in found.tensors] == ["loss", "accuracy"][: 2 - ("dataset" in changes)]
    assert dtype == "float32" or found.tensors[0].detectable[0] < 1e-10


ARRANGED = "nn.passes:evaluation"
RANK, LOSSES, RIGHT = "exchange.rank:Rank.evaluate", "found.forward()", "found.correct()"
SLIPS = [
    (DROPPED, Slip(ARRANGED, "training=False", "training=True", "evaluation-dropout: ")),
    (NORMED, Slip(ARRANGED, "training=False", "training=True", "evaluation-batchnorm: ")),
    (NORMED, Slip(RANK, LOSSES, f"[2 * each for each in {LOSSES}]",
                  "evaluation-batchnorm: The loss is 2 times what it should be: perhaps batch no")),
    ([FLAT, dense(3)], Slip(RANK, LOSSES, f"[rows * each for each in {LOSSES}]", "sum-not-mean: ")),
    (NORMED, Slip(RANK, RIGHT, f"[2 * each for each in {RIGHT}]", "accuracy-miscounted: ")),
    (NORMED, Slip(RANK, RIGHT, f"[rows - each for each in {RIGHT}]", "accuracy-inverted: ")),
    (NORMED, Slip("nn.loss:BoundLoss.correct", "argmax(y,", "argmin(y,", "accuracy-smallest: ")),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "slip"), SLIPS, ids=[str(slip) for _, slip in SLIPS])
def test_slips_are_named(
    layers: list[Any], slip: Slip, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    slip.let_loose(monkeypatch)
    (why,) = checked(data, layers=layers).diagnoses
    assert f"{why.kind}: {why.sentence}".startswith(slip.told)


def test_answers_that_are_too_near_to_tell_may_be_either() -> None:
    outputs = np.array([[1.0, 2.0], [1.0, 1.0], [3.0, 1.0]])
    errors = np.full((3, 2), 0.1)
    sure, possible = right_answers(outputs, errors, np.array([1, 0, 1]))
    assert sure.tolist() == [True, False, False]
    assert possible.tolist() == [True, True, False]
    sure, possible = right_answers(np.array([[0.05], [-1.0]]), errors[:2, :1], np.array([1, 0]))
    assert sure.tolist() == [False, True]
    assert possible.tolist() == [True, True]


def test_rows_may_be_repeated(data: Data) -> None:
    job = data.job(experiment(layers=[FLAT, dense(3)]))
    once, again = (expected(job, weights(job), rows) for rows in (np.arange(5), np.arange(10) % 5))
    assert once is not None
    assert again is not None
    assert once.loss[0] == pytest.approx(again.loss[0], rel=1e-14)
    assert once.accuracy() == again.accuracy()
