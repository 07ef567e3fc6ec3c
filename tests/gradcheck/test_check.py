"""The whole battery, from Python, from pytest and from the command line, with real workers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain import Dense, Network, Tanh
from dptrain.gradcheck.comparison import compare
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Tensor
from tests.commands import dptrain, result
from tests.sessions import write_dataset

NETWORK = Network(4, [Dense(5), Tanh(), Dense(2)])


def rows() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 4))
    return x, (x[:, 0] > 0).astype(int)


def test_a_network_passes(gradcheck: Callable[..., Any]) -> None:
    report = gradcheck(NETWORK, rows(), workers=(3,), optimizer="adam")
    edges = {each.edge for each in report.comparisons}
    assert {"analytic", "distributed", "numerical", "update", "ledger", "resume"} <= edges
    assert all(each.verdict is Verdict.PASS for each in report.comparisons)
    assert report.failures == []


def test_on_the_command_line(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    flags = ("--dataset", data, "--model", "mlp:20-7-3", "--workers", 1, "--exchange", "inline")
    page = tmp_path / "report.html"
    found = result("gradcheck", *flags, "--point", "initial", "--check-seed", 5, "--html", page)
    assert found["verdict"] == "pass"
    assert found["check_seed"] == 5
    assert found["replay"].endswith("--check-seed 5")
    assert all(each["compared"] > 0 for each in found["comparisons"] if "slope" not in each["name"])
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


def test_a_wrong_network_fails_with_exit_code_3(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    code = tmp_path / "wrong.py"
    code.write_text(
        "import numpy as np\n"
        "class Wrong:\n"
        "    def __init__(self):\n"
        "        self.params = {'W': np.random.default_rng(0).standard_normal((20, 3))}\n"
        "    def loss(self, x, t):\n"
        "        x = x.reshape(len(x), -1)\n"
        "        return 0.5 * np.sum((x @ self.params['W'] - np.eye(3)[t]) ** 2) / len(x)\n"
        "    def gradient(self, x, t):\n"
        "        x = x.reshape(len(x), -1)\n"
        "        error = x @ self.params['W'] - np.eye(3)[t]\n"
        "        return {'W': x.T @ error}\n"  # 1/N is missing
    )
    flags = ("--dataset", data, "--model.targets", "flat", "--workers", 1, "--exchange", "inline")
    done = dptrain("gradcheck", f"{code}:Wrong", *flags, "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["verdict"] == "fail"


def test_nothing_compared_is_no_pass() -> None:
    tensor = Tensor("W", (2,), 0, 2, decays=True, init=Zeros(), fans=(1, 1))
    nothing = np.zeros(2, bool)
    found = compare("a = b", "analytic", "", [tensor], np.ones(2), np.ones(2), 0.0, nothing)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert worst([]) is Verdict.INCONCLUSIVE
    assert Verdict.INCONCLUSIVE.exit_code == 4


def test_what_is_no_number_never_passes() -> None:
    tensor = Tensor("W", (2,), 0, 2, decays=True, init=Zeros(), fans=(1, 1))
    wrong = np.array([np.nan, 1.0])
    found = compare("a = b", "analytic", "", [tensor], wrong, np.ones(2), 1e9)
    assert found.verdict is Verdict.FAIL
    assert found.worst is not None
    assert found.worst[1].place == (0,)
