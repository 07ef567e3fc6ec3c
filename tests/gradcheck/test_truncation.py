"""Bugs in the source of layers and losses, and which of them is named."""

import inspect
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.truncation import first_fault
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn import numerical
from dptrain.nn.batchnorm import Normalising, Synchronised
from dptrain.nn.composite import ResidualOperation
from dptrain.nn.convolution import ConvolvedBlock
from dptrain.nn.cross_entropy import BoundSoftmaxCrossEntropy
from dptrain.nn.dense import DenseOperation
from dptrain.nn.dropout import DropoutOperation
from dptrain.nn.gelu import RATIO, ExactGELUOperation, GatedOperation, TanhGELUOperation
from dptrain.nn.layernorm import LayerNormOperation
from dptrain.nn.pooling import AveragedBlock, MaxPooledBlock
from dptrain.nn.rectifiers import KeptSlope, LeakyReLUOperation
from dptrain.nn.regression import BoundHuber, BoundSquares
from tests.exchange.build import Data
from tests.gradcheck.build import FLAT, dense, experiment
from tests.gradcheck.build import data as data
from tests.gradcheck.test_reference import every_subject, somewhere

Described = list[dict[str, Any]]

ROW: Described = [
    FLAT, dense(6), {"layer": "gelu"}, dense(5),
    {"layer": "leaky-relu", "negative_slope": 0.2}, {"layer": "chain", "layers": [
        dense(4), {"layer": "batchnorm"}, {"layer": "gelu", "approximate": "tanh"},
    ]}, {"layer": "dropout", "rate": 0.3}, dense(3),
]  # fmt: skip
CONV = {"layer": "conv2d", "filters": 3, "size": 2, "padding": 1, "init": {"init": "xavier"}}
IMAGES: Described = [
    CONV, {"layer": "maxpool2d", "size": 2, "stride": 1},
    {"layer": "residual",
     "layers": [{"layer": "tanh"}, CONV | {"size": 1, "padding": 0}],
     "shortcut": [{"layer": "layernorm"}]},
    {"layer": "avgpool2d", "size": 2}, FLAT, dense(3),
]  # fmt: skip
UNTRAINED: Described = [
    {"layer": "gelu"}, {"layer": "avgpool2d", "size": 2, "stride": 1}, FLAT, dense(3),
]  # fmt: skip
OUTPUT, BACK = "its output is wrong", "what it passes back is wrong"


class Bug(NamedTuple):
    """Some code, what stands there instead, and what is to be said of it."""

    owner: Any
    name: str
    right: str
    wrong: str
    said: str
    layers: Described = ROW
    loss: str = "softmax-cross-entropy"

    def patch(self, patches: pytest.MonkeyPatch) -> None:
        """Let it loose."""
        original = self.owner.__dict__[self.name]
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.right) == 1
        found: dict[str, Any] = {}
        exec(source.replace(self.right, self.wrong), original.__globals__, found)  # noqa: S102 - our own
        patches.setattr(self.owner, self.name, found[self.name])


ROWS: list[tuple[Any, ...]] = [
    (DenseOperation, "__init__", "np.add, y, b", "np.subtract, y, b", f"dense1: {OUTPUT}"),
    (ExactGELUOperation, "tail_calls", "number(-0.5)", "number(-0.51)", f"gelu1: {OUTPUT}"),
    (TanhGELUOperation, "tail_calls", "math.sqrt(2 / math.pi)", "math.sqrt(2 / 3.14)",
     f"chain1.gelu1: {OUTPUT}"),
    (LeakyReLUOperation, "calls", "self.negative_slope", "0.01", f"leaky-relu1: {OUTPUT}"),
    (Synchronised, "_combine", "self.total * self.epsilon", "self.epsilon",
     f"chain1.batchnorm1: {OUTPUT}"),
    (ConvolvedBlock, "forward_calls", "self._weights,", "self._weights[::-1],",
     f"conv2d1: {OUTPUT}", IMAGES),
    (MaxPooledBlock, "forward_calls", "np.maximum", "np.minimum", f"maxpool2d1: {OUTPUT}", IMAGES),
    (AveragedBlock, "_divisor", "self.over.offsets", "self.over.offsets + 1",
     f"avgpool2d1: {OUTPUT}", IMAGES),
    (LayerNormOperation, "_block_calls", "inverse, epsilon", "inverse, 2 * epsilon",
     f"residual1.shortcut.layernorm1: {OUTPUT}", IMAGES),
    (ResidualOperation, "__init__", "np.add", "np.subtract", f"residual1: {OUTPUT}", IMAGES),
    (GatedOperation, "calls", "number(self.limit)", "number(1)", f"gelu1: {OUTPUT}", UNTRAINED),
    (DenseOperation, "backward_calls", "product(dy, self.W.T, dx)", "product(dy, -self.W.T, dx)",
     f"dense2: {BACK}"),
    (DenseOperation, "backward_calls", "dy, 1, None, db", "dy[:, 1:], 1, None, db",
     "dense1: the gradient of b is wrong"),
    (KeptSlope, "backward_calls", "np.multiply, dy, slope", "np.divide, dy, slope",
     f"gelu1: {BACK}"),
    (Synchronised, "_input_calls", "total, self.total,", "total, self.total - 1,",
     f"chain1.batchnorm1: {BACK}"),
    (Normalising, "parameter_calls", "self.normal[i]", "self.y[i]",
     "chain1.batchnorm1: the gradient of gamma is wrong, and what it passes back"),
    (DropoutOperation, "backward_calls", "self.masks", "[~m for m in self.masks]",
     f"dropout1: {BACK}"),
    (ConvolvedBlock, "weight_calls", "patches.transpose(0, 2, 1)",
     "patches.transpose(0, 2, 1)[:, ::-1]", "conv2d1: the gradient of W, b is wrong", IMAGES),
    (ConvolvedBlock, "input_calls", "self._weights[:-1].T", "self._weights[1:].T",
     f"residual1.conv2d1: {BACK}", IMAGES),
    (MaxPooledBlock, "backward_calls", "free.fill, True", "free.fill, False",
     f"maxpool2d1: {BACK}", IMAGES),
    (ResidualOperation, "backward_calls", "np.add", "np.subtract", f"residual1: {BACK}", IMAGES),
    (BoundSoftmaxCrossEntropy, "backward", "share = 1 / rows", "share = 0.9 / rows",
     "softmax-cross-entropy: its derivative is wrong"),
    (BoundSoftmaxCrossEntropy, "block_calls", "np.subtract, row, at_label",
     "np.add, row, at_label", "softmax-cross-entropy: its value is wrong"),
    (BoundSquares, "backward", "divisor / 2", "divisor",
     "sum-of-squares: its derivative is wrong", ROW, "sum-of-squares"),
    (BoundHuber, "losses", "np.minimum(error, self.delta", "np.minimum(error, 0.1",
     "huber: its value and its derivative are wrong", ROW, "huber"),
]  # fmt: skip
BUGS = [Bug(*row) for row in ROWS]


def found_in(local: Local, step: int = 0) -> str:
    reference = local.reference(step)
    assert reference is not None
    fault = first_fault(local.job, reference, somewhere(local))
    return "" if fault is None else fault.sentence


def diagnosed(job: Job) -> Sequence[Diagnosis]:
    triangle = Triangle(Local(job))
    parameters = somewhere(triangle.local)
    comparisons = list(triangle.against_formulas(parameters, 0, ""))
    failed = next(each for each in comparisons if each.verdict is Verdict.FAIL)
    found = triangle.local.analytic(parameters, 0).gradient
    return triangle.failure(failed, found, parameters, 0, workers=1).diagnoses


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.name}-{bug.said}")
def test_the_layer_is_named(bug: Bug, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.patch(monkeypatch)
    described = experiment(layers=bug.layers, loss=bug.loss)
    for dtype in ("float64", "float32"):
        assert found_in(Local(data.job(described | {"dtype": dtype}))) == bug.said


def test_what_is_wrong_in_float32_alone(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = RATIO["float32"]
    monkeypatch.setitem(RATIO, "float32", (first, *(1.01 * each for each in others)))
    described = experiment(layers=ROW)
    assert not found_in(Local(data.job(described)))
    assert found_in(Local(data.job(described | {"dtype": "float32"}))) == f"gelu1: {OUTPUT}"


@pytest.mark.parametrize("step", [0, 4], ids=["full", "ragged"])
@pytest.mark.parametrize("freeze", [[], ["dense1"], ["dense1", "dense2", "chain1"]])
def test_frozen_layers_and_the_last_minibatch(
    step: int, freeze: list[str], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Local(data.job(experiment(layers=ROW, freeze=freeze)))
    assert not found_in(local, step)
    BUGS[2].patch(monkeypatch)  # it is bound anew
    assert found_in(local, step) == f"chain1.gelu1: {OUTPUT}"


@pytest.mark.parametrize("number", [1, 3, 5, 14, 21, 22, 24])
def test_the_diagnosis_begins_with_it(
    number: int, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = BUGS[number]
    bug.patch(monkeypatch)
    for dtype in ("float64", "float32"):
        job = data.job(experiment(layers=bug.layers, loss=bug.loss, dtype=dtype))
        assert diagnosed(job)[0].sentence == bug.said


def test_what_explains_everything_comes_first(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[21]._replace(wrong="share = 0.0").patch(monkeypatch)
    first, second, *_ = diagnosed(data.job(experiment(layers=ROW)))
    assert first.sentence == "softmax-cross-entropy: the labels are not subtracted"
    assert second.sentence == "softmax-cross-entropy: its derivative is wrong"


def test_differences_of_a_loss_that_is_wrong(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    row = [FLAT, dense(4), {"layer": "gelu"}, dense(3)]
    described = experiment(layers=row, gradient="numerical")
    BUGS[1].patch(monkeypatch)
    (only,) = diagnosed(data.job(described))
    assert only.sentence == f"gelu1: {OUTPUT}"
    monkeypatch.undo()
    monkeypatch.setattr(numerical, "STEP", 0.1)
    (only,) = diagnosed(data.job(described))
    assert only.kind == "difference-quotient"


@pytest.mark.parametrize(
    "described", every_subject(), ids=lambda d: f"{len(d['layers'])}-{d['loss']}"
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nothing_is_named_where_nothing_is_wrong(
    described: dict[str, Any], dtype: str, data: Data
) -> None:
    assert not found_in(Local(data.job(described | {"dtype": dtype})))
