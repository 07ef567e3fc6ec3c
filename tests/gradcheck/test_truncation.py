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
from dptrain.nn import (
    batchnorm,
    composite,
    convolution,
    cross_entropy,
    dense,
    dropout,
    gelu,
    layernorm,
    numerical,
    pooling,
    rectifiers,
    regression,
)
from tests.exchange.build import Data
from tests.gradcheck.build import FLAT, experiment
from tests.gradcheck.build import data as data
from tests.gradcheck.build import dense as dense_layer
from tests.gradcheck.test_reference import every_subject, somewhere

Described = list[dict[str, Any]]

ROW: Described = [
    FLAT, dense_layer(6), {"layer": "gelu"}, dense_layer(5),
    {"layer": "leaky-relu", "negative_slope": 0.2}, {"layer": "chain", "layers": [
        dense_layer(4), {"layer": "batchnorm"}, {"layer": "gelu", "approximate": "tanh"},
    ]}, {"layer": "dropout", "rate": 0.3}, dense_layer(3),
]  # fmt: skip
CONV = {"layer": "conv2d", "filters": 3, "size": 2, "padding": 1, "init": {"init": "xavier"}}
IMAGES: Described = [
    CONV, {"layer": "maxpool2d", "size": 2, "stride": 1},
    {"layer": "residual",
     "layers": [{"layer": "tanh"}, CONV | {"size": 1, "padding": 0}],
     "shortcut": [{"layer": "layernorm"}]},
    {"layer": "avgpool2d", "size": 2}, FLAT, dense_layer(3),
]  # fmt: skip
UNTRAINED: Described = [
    {"layer": "gelu"},
    {"layer": "avgpool2d", "size": 2, "stride": 1},
    FLAT,
    dense_layer(3),
]


class Bug(NamedTuple):
    """Some code, what stands there instead, and what is to be said of it."""

    owner: Any
    name: str
    right: str
    wrong: str
    sentence: str
    layers: Described = ROW
    loss: str = "softmax-cross-entropy"

    def patch(self, patches: pytest.MonkeyPatch) -> None:
        """Let it loose."""
        original = self.owner.__dict__[self.name]
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.right) == 1
        found: dict[str, Any] = {}
        exec(source.replace(self.right, self.wrong), original.__globals__, found)  # noqa: S102
        patches.setattr(self.owner, self.name, found[self.name])


FORWARD = (
    Bug(dense.DenseOperation, "__init__", "np.add, y, b", "np.subtract, y, b", "dense1: output"),
    Bug(gelu.ExactGELUOperation, "tail_calls", "number(-0.5)", "number(-0.51)", "gelu1: output"),
    Bug(
        gelu.TanhGELUOperation, "tail_calls", "math.sqrt(2 / math.pi)", "math.sqrt(2 / 3.14)",
        "chain1.gelu1: output",
    ),
    Bug(
        rectifiers.LeakyReLUOperation, "calls", "self.negative_slope", "0.01",
        "leaky-relu1: output",
    ),
    Bug(
        batchnorm.Synchronised, "_combine", "self.total * self.epsilon", "self.epsilon",
        "chain1.batchnorm1: output",
    ),
    Bug(
        convolution.ConvolvedBlock, "forward_calls", "self._weights,", "self._weights[::-1],",
        "conv2d1: output", IMAGES,
    ),
    Bug(
        pooling.MaxPooledBlock, "forward_calls", "np.maximum", "np.minimum",
        "maxpool2d1: output", IMAGES,
    ),
    Bug(
        pooling.AveragedBlock, "_divisor", "self.over.offsets", "self.over.offsets + 1",
        "avgpool2d1: output", IMAGES,
    ),
    Bug(
        layernorm.LayerNormOperation, "_block_calls", "inverse, epsilon", "inverse, 2 * epsilon",
        "residual1.shortcut.layernorm1: output", IMAGES,
    ),
    Bug(
        composite.ResidualOperation, "__init__", "np.add", "np.subtract",
        "residual1: output", IMAGES,
    ),
    Bug(
        gelu.GatedOperation, "calls", "number(self.limit)", "number(1)", "gelu1: output", UNTRAINED,
    ),
)  # fmt: skip
BACKWARD = (
    Bug(
        dense.DenseOperation, "backward_calls", "product(dy, self.W.T, dx)",
        "product(dy, -self.W.T, dx)", "dense2: back",
    ),
    Bug(
        dense.DenseOperation, "backward_calls", "dy, 1, None, db", "dy[:, 1:], 1, None, db",
        "dense1: the gradient of b is wrong",
    ),
    Bug(
        rectifiers.KeptSlope, "backward_calls", "np.multiply, dy, slope", "np.divide, dy, slope",
        "gelu1: back",
    ),
    Bug(
        batchnorm.Synchronised, "_input_calls", "total, self.total,", "total, self.total - 1,",
        "chain1.batchnorm1: back",
    ),
    Bug(
        batchnorm.Normalising, "parameter_calls", "self.normal[i]", "self.y[i]",
        "chain1.batchnorm1: the gradient of gamma is wrong, and what it passes back",
    ),
    Bug(
        dropout.DropoutOperation, "backward_calls", "self.masks", "[~m for m in self.masks]",
        "dropout1: back",
    ),
    Bug(
        convolution.ConvolvedBlock, "weight_calls", "patches.transpose(0, 2, 1)",
        "patches.transpose(0, 2, 1)[:, ::-1]", "conv2d1: the gradient of W, b is wrong", IMAGES,
    ),
    Bug(
        convolution.ConvolvedBlock, "input_calls", "self._weights[:-1].T", "self._weights[1:].T",
        "residual1.conv2d1: back", IMAGES,
    ),
    Bug(
        pooling.MaxPooledBlock, "backward_calls", "free.fill, True", "free.fill, False",
        "maxpool2d1: back", IMAGES,
    ),
    Bug(
        composite.ResidualOperation, "backward_calls", "np.add", "np.subtract",
        "residual1: back", IMAGES,
    ),
)  # fmt: skip
OF_THE_LOSS = (
    Bug(
        cross_entropy.BoundSoftmaxCrossEntropy, "backward", "share = 1 / rows",
        "share = 0.9 / rows", "softmax-cross-entropy: its derivative is wrong",
    ),
    Bug(
        cross_entropy.BoundSoftmaxCrossEntropy, "block_calls", "np.subtract, row, at_label",
        "np.add, row, at_label", "softmax-cross-entropy: its value is wrong",
    ),
    Bug(
        regression.BoundSquares, "backward", "divisor / 2", "divisor",
        "sum-of-squares: its derivative is wrong", loss="sum-of-squares",
    ),
    Bug(
        regression.BoundHuber, "losses", "np.minimum(error, self.delta", "np.minimum(error, 0.1",
        "huber: its value and its derivative are wrong", loss="huber",
    ),
)  # fmt: skip
EVERY_BUG = (*FORWARD, *BACKWARD, *OF_THE_LOSS)


BACK, OUTPUT = "what it passes back is wrong", "its output is wrong"


def said(bug: Bug) -> str:
    """Return the whole sentence."""
    where, _, what = bug.sentence.partition(": ")
    return f"{where}: { {'output': OUTPUT, 'back': BACK}.get(what, what)}"


def found_in(local: Local, step: int = 0, *, backward: bool = True) -> Diagnosis | None:
    reference = local.reference(step)
    assert reference is not None
    return first_fault(local.job, reference, somewhere(local), backward=backward)


def diagnosed(job: Job) -> Sequence[Diagnosis]:
    triangle = Triangle(Local(job))
    parameters = somewhere(triangle.local)
    comparisons = list(triangle.against_formulas(parameters, 0, ""))
    failed = next(each for each in comparisons if each.verdict is Verdict.FAIL)
    found = triangle.local.analytic(parameters, 0).gradient
    return triangle.failure(failed, found, parameters, 0, workers=1).diagnoses


@pytest.mark.parametrize("bug", EVERY_BUG, ids=lambda b: f"{b.owner.__name__}-{b.sentence}")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_layer_is_named(
    bug: Bug, dtype: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = experiment(layers=bug.layers, loss=bug.loss, dtype=dtype)
    bug.patch(monkeypatch)
    fault = found_in(Local(data.job(described)))
    assert fault is not None
    assert fault.sentence == said(bug)


def test_what_is_wrong_in_float32_alone(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = gelu.RATIO["float32"]
    monkeypatch.setitem(gelu.RATIO, "float32", (first, *(1.01 * each for each in others)))
    described = experiment(layers=ROW)
    assert found_in(Local(data.job(described))) is None
    fault = found_in(Local(data.job(described | {"dtype": "float32"})))
    assert fault is not None
    assert fault.sentence == "gelu1: its output is wrong"


@pytest.mark.parametrize("step", [0, 4], ids=["full", "ragged"])
@pytest.mark.parametrize("freeze", [[], ["dense1"], ["dense1", "dense2", "chain1"]])
def test_frozen_layers_and_the_last_minibatch(
    step: int, freeze: list[str], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Local(data.job(experiment(layers=ROW, freeze=freeze)))
    assert found_in(local, step) is None
    FORWARD[2].patch(monkeypatch)  # it is bound anew
    fault = found_in(local, step)
    assert fault is not None
    assert fault.sentence == "chain1.gelu1: its output is wrong"


@pytest.mark.parametrize(
    "bug",
    [
        FORWARD[1],
        FORWARD[3],
        FORWARD[5],
        BACKWARD[3],
        OF_THE_LOSS[0],
        OF_THE_LOSS[1],
        OF_THE_LOSS[3],
    ],
    ids=lambda b: b.sentence,
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_diagnosis_begins_with_it(
    bug: Bug, dtype: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug.patch(monkeypatch)
    diagnoses = diagnosed(data.job(experiment(layers=bug.layers, loss=bug.loss, dtype=dtype)))
    assert diagnoses[0].sentence == said(bug)


def test_what_explains_everything_comes_first(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    Bug(
        cross_entropy.BoundSoftmaxCrossEntropy, "backward", "share = 1 / rows", "share = 0.0", "",
    ).patch(monkeypatch)  # fmt: skip
    first, second, *_ = diagnosed(data.job(experiment(layers=ROW)))
    assert first.sentence == "softmax-cross-entropy: the labels are not subtracted"
    assert second.sentence == "softmax-cross-entropy: its derivative is wrong"


def test_differences_of_a_loss_that_is_wrong(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    row = [FLAT, dense_layer(4), {"layer": "gelu"}, dense_layer(3)]
    described = experiment(layers=row, gradient="numerical")
    FORWARD[1].patch(monkeypatch)
    (only,) = diagnosed(data.job(described))
    assert only.sentence == "gelu1: its output is wrong"
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
    local = Local(data.job(described | {"dtype": dtype}))
    assert found_in(local) is None
