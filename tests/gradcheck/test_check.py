"""The whole battery, from Python, from pytest and from the command line, with real workers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain import Dense, Network, Tanh
from dptrain.gradcheck import ledger
from dptrain.gradcheck.calls import assert_gradients, check
from dptrain.gradcheck.comparison import compare, entry
from dptrain.gradcheck.report import EDGES, STAGES
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.nn.calls import Call, call
from dptrain.nn.dense import DenseOperation
from dptrain.nn.layer import Blocks
from tests.commands import dptrain, result
from tests.sessions import write_dataset

NETWORK = Network(4, [Dense(5), Tanh(), Dense(2)])
INLINE: dict[str, Any] = {"exchange": ("inline",), "workers": (1,), "check_seed": 0}
ROWS = np.random.default_rng(0).standard_normal((60, 4))
DATA = (ROWS, (ROWS[:, 0] > 0).astype(int))


def test_a_network_passes(gradcheck: Callable[..., Any]) -> None:
    report = gradcheck(NETWORK, DATA, workers=(3,), optimizer="adam")
    edges = {each.edge for each in report.comparisons}
    assert {"analytic", "distributed", "numerical", "update", "ledger", "resume"} <= edges
    assert all(each.verdict is Verdict.PASS for each in report.comparisons)
    assert report.failures == []


def test_stages_follow_only_from_those_further_up() -> None:
    for place, stage in enumerate(STAGES):
        assert all(EDGES[each] < place for each in stage.follows + stage.own)


def test_on_the_command_line(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    flags = ("--dataset", data, "--model", "mlp:20-7-3", "--workers", 1, "--exchange", "inline")
    page = tmp_path / "report.html"
    found = result("gradcheck", *flags, "--point", "initial", "--check-seed", 5, "--html", page)
    assert found["verdict"] == "pass"
    assert found["check_seed"] == 5
    assert found["replay"].endswith("--check-seed 5")
    assert all(each["compared"] > 0 for each in found["comparisons"] if "slope" not in each["name"])
    assert {"analytic = formulas, float32", "analytic = projections, float64"} <= {
        each["name"] for each in found["power"]
    }
    text = page.read_text()
    assert "http" not in text
    assert "Taylor test" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--workers", "two"), "is no list of numbers"),
        (("--exchange", "ring"), "choose some of inline, star, shared"),
        (("nothing.toml",), "nothing.toml"),
    ],
)
def test_mistakes(flags: tuple[str, ...], message: str) -> None:
    done = dptrain("gradcheck", *flags)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


WRONG = """
import numpy as np
class Wrong:  # 1/N is missing
    def __init__(self):
        self.params = {"W": np.random.default_rng(0).standard_normal((20, 3))}
    def error(self, x, t):
        return x.reshape(len(x), -1) @ self.params["W"] - np.eye(3)[t]
    def loss(self, x, t):
        return 0.5 * np.sum(self.error(x, t) ** 2) / len(x)
    def gradient(self, x, t):
        return {"W": x.reshape(len(x), -1).T @ self.error(x, t)}
"""


def test_a_wrong_network_fails_with_exit_code_3(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    (tmp_path / "wrong.py").write_text(WRONG)
    flags = ("--dataset", data, "--model.targets", "flat", "--workers", 1, "--exchange", "inline")
    done = dptrain("gradcheck", f"{tmp_path}/wrong.py:Wrong", *flags, "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["verdict"] == "fail"


def test_nothing_compared_is_no_pass_and_what_is_no_number_fails() -> None:
    tensors, ones = [entry("W", (2,))], np.ones(2)
    found = compare("a = b", "analytic", "", tensors, ones, ones, 0.0, np.zeros(2, bool))
    assert found.verdict is worst([]) is Verdict.INCONCLUSIVE
    assert Verdict.INCONCLUSIVE.exit_code == 4
    found = compare("a = b", "analytic", "", tensors, np.array([np.nan, 1.0]), ones, 1e9)
    assert found.verdict is Verdict.FAIL
    assert found.worst is not None
    assert found.worst[1].place == (0,)


def test_a_fault_of_the_checker_is_no_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "EPOCHS", "many")
    report = check(NETWORK, DATA, **INLINE)
    assert report.verdict is Verdict.ERROR
    assert report.verdict.exit_code == 1
    assert not report.blamed
    (broke,) = report.failures
    assert broke.comparison.note.startswith("TypeError in ")
    assert broke.comparison.note.endswith("a fault of dptrain's checker, not of what is checked")
    with pytest.raises(AssertionError, match="gradients: error"):
        assert_gradients(NETWORK, DATA, **INLINE)


def test_a_difference_says_more_than_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "EPOCHS", "many")
    right = DenseOperation.backward_calls

    def doubled(self: DenseOperation, gradients: Blocks) -> tuple[list[Call], Blocks]:
        calls, below = right(self, gradients)
        return [*calls, *(call(np.multiply, db, 2.0, db) for db in self.bias_gradients)], below

    monkeypatch.setattr(DenseOperation, "backward_calls", doubled)
    report = check(NETWORK, DATA, **INLINE)
    assert {Verdict.FAIL, Verdict.ERROR} <= {each.verdict for each in report.comparisons}
    assert report.verdict is Verdict.FAIL
