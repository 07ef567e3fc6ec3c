"""Evaluations against the formulas: right ones, and the mistakes that people make."""

from typing import Any

import numpy as np
import pytest

from dptrain.exchange import rank
from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.rank import Rank
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.evaluation import by_formulas, check_score, expected, right_answers
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.passes import Arrangement
from tests.exchange.build import Data
from tests.gradcheck.build import FLAT, dense, experiment, weights
from tests.gradcheck.build import data as data

NORMED = [FLAT, dense(6), {"layer": "batchnorm"}, {"layer": "relu"}, dense(3)]
DROPPED = [FLAT, dense(6), {"layer": "dropout", "rate": 0.5}, dense(3)]
ONE = [FLAT, dense(1)]


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
    if dtype == "float64":
        assert found.tensors[0].detectable[0] < 1e-10


def test_training_mode_shows(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank, "evaluation", lambda rows: Arrangement(rows, 1, 0, 1))
    assert checked(data, layers=NORMED).verdict is Verdict.FAIL
    dropped = checked(data, layers=DROPPED)
    assert dropped.verdict is Verdict.FAIL
    assert dropped.diagnoses[0].sentence.endswith("perhaps dropout is active.")


def test_rows_that_are_taken_twice_show(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Rank.evaluate

    def twice(own: Rank, split: str, first: int, last: int, version: int = 0) -> Any:
        losses, correct = right(own, split, first, last, version)
        return [2 * each for each in losses], correct

    monkeypatch.setattr(Rank, "evaluate", twice)
    found = checked(data, layers=NORMED)
    assert [t.failed for t in found.tensors] == [1, 0]
    (why,) = found.diagnoses
    assert why.kind == "evaluation-batchnorm"
    assert why.sentence.startswith("The loss is 2 times what it should be: perhaps batch norm")


def test_answers_that_are_counted_wrongly_are_told(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Rank.evaluate
    change = {"miscounted": lambda n, _: 2 * n, "inverted": lambda n, rows: rows - n}
    for kind, changed in change.items():

        def count(own: Rank, split: str, *rest: Any, changed: Any = changed) -> Any:
            losses, correct = right(own, split, *rest)
            return losses, [changed(sum(correct), len(own.job.split(split)))]

        monkeypatch.setattr(Rank, "evaluate", count)
        found = checked(data, layers=NORMED)
        assert [t.failed for t in found.tensors] == [0, 1]
        assert [why.kind for why in found.diagnoses] == [f"accuracy-{kind}"]


def test_the_smallest_output_as_the_answer_is_told(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    argmax = np.argmax
    monkeypatch.setattr("dptrain.nn.loss.np.argmax", lambda y, axis: argmax(-y, axis=axis))
    found = checked(data, layers=NORMED)
    assert [why.kind for why in found.diagnoses] == ["accuracy-smallest"]


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
    w = weights(job)
    rows = [by_formulas(job, w, order) for order in (np.arange(5), np.arange(10) % 5)]
    once, again = (expected(each, classifies=True) for each in rows if each is not None)
    assert once.loss == pytest.approx(again.loss, rel=1e-14)
    assert once.accuracy == again.accuracy
