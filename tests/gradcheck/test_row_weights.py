"""The checker of weighed rows: right ones pass, and each way to ignore weights is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.data.dataset import Split
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.calls import check
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.ledger import check_ledger
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from dptrain.nn.activations import Sigmoid
from dptrain.nn.dense import Dense
from dptrain.nn.loss import BoundLoss
from dptrain.nn.network import Network
from dptrain.nn.passes import ShardedPass
from tests.exchange.build import LOSSES, UNITS, Data
from tests.gradcheck.build import FLAT, dense, experiment, weights
from tests.gradcheck.build import data as data
from tests.gradcheck.minibatches.cases import case

Patch = pytest.MonkeyPatch
INLINE = Way("inline", 1)
ROWS = np.random.default_rng(2).integers(0, 4, 60)


def weighed(data: Data, of: str = "classes", **settings: Any) -> Job:
    layers = [FLAT, dense(6), {"layer": "batchnorm"}, {"layer": "tanh"}, dense(UNITS[of])]
    return data.job(experiment(dataset=f"weighed {of}", layers=layers, **settings))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("of", "loss"), [(of, each) for of in ("classes", "regression") for each in LOSSES[of]]
)
def test_every_loss_agrees_with_the_formulas(
    of: str, loss: dict[str, Any], dtype: str, data: Data
) -> None:
    job = weighed(data, of, dtype=dtype, **loss)
    triangle, at = Triangle(Local(job)), weights(job)
    for step in (0, 4):  # a whole minibatch, and one of 5 rows
        found = list(triangle.against_formulas(at, step, "here"))
        if dtype == "float64":
            some = np.arange(0, job.network.size, 5)
            found += triangle.against_complex_step(at, step, "here", some)
        assert {c.verdict for c in found} == {Verdict.PASS}


def ignored_in_shard(patch: Patch, shard: int) -> None:
    """Have one shard's gradient ignore the weights."""
    right = BoundLoss.weighted_backward

    def wrong(self: BoundLoss, rows: int, weights: list[Any]) -> Any:
        changed = [np.array(each) for each in weights]
        changed[0][shard] = 1
        return right(self, rows, changed)

    patch.setattr(BoundLoss, "weighted_backward", wrong)


@pytest.mark.parametrize("shard", [0, 2])
def test_a_shard_whose_gradient_ignores_weights_is_named(
    shard: int, data: Data, monkeypatch: Patch
) -> None:
    job = weighed(data)
    ignored_in_shard(monkeypatch, shard)
    triangle, at = Triangle(Local(job)), weights(job)
    loss, gradient = triangle.against_formulas(at, 0, "here")
    assert loss.verdict is Verdict.PASS
    assert gradient.verdict is Verdict.FAIL
    found = triangle.failure(gradient, triangle.local.analytic(at, 0).gradient, at, 0, 1)
    assert found.diagnoses[0].kind == "weights-ignored"
    assert f"the weights of the rows are ignored in shard {shard}" in found.diagnoses[0].sentence


@pytest.mark.parametrize("way", [INLINE, Way("shared", 3), Way("star", 2)], ids=str)
def test_the_ledger_counts_weighed_rows(way: Way, data: Data, workers: Program) -> None:
    job = weighed(data)
    found = check_ledger(job.experiment, way, weighted=True, worker=workers)
    assert {c.verdict for c in found} == {Verdict.PASS}


def test_the_ledger_names_a_shard_without_weights(data: Data, monkeypatch: Patch) -> None:
    job = weighed(data)
    ignored_in_shard(monkeypatch, 1)
    found = check_ledger(job.experiment, INLINE, weighted=True)
    failed = [each for each in found if each.verdict is Verdict.FAIL]
    assert failed[0].diagnoses[0].sentence == "Rows count without their weights in shard 1."


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_in_steps_are_those_of_the_data(dtype: str, tmp_path: Path) -> None:
    found = case(tmp_path / "data", weights=ROWS, dtype=dtype)
    assert found.passes()
    names = [each.name for each in found.checked()]
    assert names.count("row weights of a step = the data's") > 10


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        (lambda w, _: np.ones(len(w)), "Weights of rows are ignored."),
        (lambda w, _: w[::-1].copy(), "Rows have the weights of other rows of their minibatch."),
        (lambda _, rows: ROWS[rows], "Weights are as they were given, and not divided"),
        (lambda w, _: 2 * w, "Rows do not have their weights, divided by their mean"),
    ],
)
def test_wrong_weights_in_steps_are_named(
    slip: Any, said: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    right = Split.gather_weights

    def wrong(self: Split, order: Any, out: Any) -> None:
        right(self, order, out)
        assert self.index is not None
        out[...] = slip(out, self.index[order])

    found = case(tmp_path / "data", weights=ROWS, shards=1)
    monkeypatch.setattr(Split, "gather_weights", wrong)
    kind, sentence = found.named()
    assert kind == "row-weights"
    assert said in sentence


def test_a_check_of_weighed_rows_passes_and_fails_where_a_shard_ignores_them(
    monkeypatch: Patch,
) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 4))
    network = Network(4, [Dense(5), Sigmoid(), Dense(2)])
    asked: dict[str, Any] = {
        "sample_weight": ROWS, "workers": (1,), "exchange": ("inline",), "check_seed": 1
    }  # fmt: skip
    t = (x[:, 0] > 0).astype(int)
    assert check(network, (x, t), **asked).verdict is Verdict.PASS
    place = Rank.place

    def wrong(self: Rank, share: Share, version: int = 0) -> ShardedPass:
        found = place(self, share, version)
        found.row_weights[0][:3] = 1
        return found

    monkeypatch.setattr(Rank, "place", wrong)
    found = check(network, (x, t), **asked)
    assert found.verdict is Verdict.FAIL
    assert found.failures[0].diagnoses[0].sentence == "Weights of rows are ignored."
