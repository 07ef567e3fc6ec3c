"""What is said of a network before a run begins, and that nothing false is said of right ones."""

from typing import Any

import numpy as np
import pytest

from dptrain.errors import OwnCodeError, UsageError
from dptrain.own.dry_run import DryRun, dry_run
from dptrain.own.model import OwnModel
from dptrain.own.network import OwnNetwork, SampleForm
from dptrain.own.state_detection import DetectedState, watched
from tests.own.nets import Affine, Net, Regression

RANDOM = np.random.default_rng(1)
X = RANDOM.standard_normal((30, 20)).astype(np.float32)
T = X[:, :3].argmax(axis=1)


def tried(
    subject: Any, x: Any = X, t: Any = T, form: SampleForm | None = None, **more: Any
) -> DryRun:
    model = OwnModel(subject, type(subject).__name__)
    shapes = {name: array.shape for name, array in model.params.items()}
    network = OwnNetwork("net.py:Net", shapes, form or SampleForm((20,), 3, False), model)
    before = {name: array.copy() for name, array in model.params.items()}
    found = dry_run(network, x, t, **more)
    assert all((subject.params[name] == array).all() for name, array in before.items())
    return found


def made(kind: type[Net] = Net, seed: int = 0, **arguments: Any) -> Net:
    np.random.seed(seed)
    return kind(**arguments)


class Zeros:
    """Softmax regression from zeros, as in every textbook."""

    def __init__(self) -> None:
        self.params = {"W": np.zeros((20, 3)), "b": np.zeros(3)}

    def predict(self, x: Any) -> Any:
        power = np.exp(x @ self.params["W"] + self.params["b"])
        return power / power.sum(axis=1, keepdims=True)

    def loss(self, x: Any, t: Any) -> Any:
        return -np.mean(np.log(np.sum(self.hot(t) * self.predict(x), axis=1) + 1e-7))

    def gradient(self, x: Any, t: Any) -> Any:
        d = (self.predict(x) - self.hot(t)) / len(x)
        return {"W": x.T @ d, "b": d.sum(axis=0)}

    def hot(self, t: Any) -> Any:
        return t if t.ndim == 2 else np.eye(3)[t]


class ZeroLogistic:
    """Two classes, one output, class numbers from ``predict``."""

    def __init__(self) -> None:
        self.params = {"w": np.zeros(20), "b": np.zeros(1)}

    def chances(self, x: Any) -> Any:
        return 1 / (1 + np.exp(-x @ self.params["w"] - self.params["b"]))

    def predict(self, x: Any) -> Any:
        return (self.chances(x) > 0.5).astype(int)

    def loss(self, x: Any, t: Any) -> Any:
        p = self.chances(x)
        return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))

    def gradient(self, x: Any, t: Any) -> Any:
        d = (self.chances(x) - t) / len(x)
        return {"w": x.T @ d, "b": d.sum(keepdims=True)}


class Saturated(Zeros):
    """Its loss is at its bound, -log(1e-7), around the weights that it begins with."""

    def __init__(self) -> None:
        super().__init__()
        self.params["b"][:] = [0.0, 0.0, 600.0]

    def hot(self, t: Any) -> Any:
        return super().hot(np.zeros(len(t), int))


class Rounding(Zeros):
    """A tensor that does nothing, and rounding as its slope: a bias before batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.params["c"] = np.zeros(3)

    def gradient(self, x: Any, t: Any) -> Any:
        return super().gradient(x, t) | {"c": np.full(3, 1e-18)}


def dead(decay: float = 0.0) -> Net:
    """A network whose hidden units are all dead, perhaps with a penalty in loss and gradient."""

    class Decayed(Net):
        def loss(self, x: Any, t: Any, train: bool = False) -> Any:
            w = (self.params[name] for name in ("W1", "W2"))
            return super().loss(x, t, train) + decay / 2 * sum(np.sum(each**2) for each in w)

        def gradient(self, x: Any, t: Any) -> Any:
            found = super().gradient(x, t)
            return found | {n: found[n] + decay * self.params[n] for n in ("W1", "W2")}

    found = made(Decayed)
    found.params["b1"][:] = -50
    return found


@pytest.mark.parametrize(
    ("subject", "form"),
    [
        (Zeros(), None),
        (Zeros(), SampleForm((20,), 3, True)),
        (Saturated(), None),
        (Rounding(), None),
        (dead(), None),
        (dead(0.1), None),
        (made(drop=True), None),
        (made(), SampleForm((20,), 3, True)),
        *((made(seed=seed, hidden=2), None) for seed in range(10)),
    ],
)
@pytest.mark.parametrize("rows", [3, 4, 30])
def test_right_networks(subject: Any, form: SampleForm | None, rows: int) -> None:
    assert tried(subject, X[:rows], T[:rows], form) == DryRun([], "")


def test_right_networks_of_two_classes_and_of_values() -> None:
    assert tried(ZeroLogistic(), t=T // 2, form=SampleForm((20,), 2, True)) == DryRun([], "")
    assert tried(Regression(), t=X[:, 0], form=SampleForm((20,), 0, True)) == DryRun([], "")


class AllCopied(Net):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.params = {name: array.copy() for name, array in self.params.items()}


class OneCopied(Net):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.layers["Affine2"] = Affine(self.params["W2"].copy(), self.params["b2"])


class CopiedBesideAPenalty(OneCopied):
    """The loss does change with the array: by the penalty alone."""

    def loss(self, x: Any, t: Any, train: bool = False) -> Any:
        return super().loss(x, t, train) + np.sum(self.params["W2"] ** 2) / 2

    def gradient(self, x: Any, t: Any) -> Any:
        found = super().gradient(x, t)
        return found | {"W2": found["W2"] + self.params["W2"]}


def test_copies() -> None:
    with pytest.raises(UsageError, match=r"AllCopied does not change with its .params, though"):
        tried(made(AllCopied))
    with pytest.raises(UsageError, match=r"^params\['W2'\] of OneCopied is not what its layers"):
        tried(made(OneCopied))
    (told,) = tried(made(CopiedBesideAPenalty)).warnings
    assert told.startswith("predict(x) of CopiedBesideAPenalty does not change with params['W2']")


class CopiedAndMute(AllCopied):
    """Without ``predict`` a loss alone shows less."""

    predict = None  # type: ignore[assignment]
    accuracy = staticmethod(lambda *_: 0.5)

    def loss(self, x: Any, t: Any, train: bool = False) -> Any:
        y = Net.predict(self, x, train)
        return np.mean((y - t) ** 2)

    def gradient(self, *_: Any) -> Any:
        return {name: np.ones_like(array) for name, array in self.params.items()}


def test_copies_are_not_certain_without_outputs() -> None:
    (told,) = tried(made(CopiedAndMute)).warnings
    assert told.startswith("the loss of CopiedAndMute does not change with its .params")


class NaNGradient(Net):
    def gradient(self, x: Any, t: Any) -> Any:
        return super().gradient(x, t) | {"W1": self.params["W1"] * np.nan}


class NaNLoss(Net):
    def loss(self, x: Any, t: Any, train: bool = False) -> Any:
        return super().loss(x, t, train) * np.nan


def test_no_numbers() -> None:
    (told,) = tried(made(NaNGradient)).warnings
    assert told.startswith("the gradient of W1 in NaNGradient is not finite before the first step")
    (told,) = tried(made(NaNLoss)).warnings
    assert told.startswith("the loss of NaNLoss is nan before the first step")


class Summed(Net):
    def loss(self, x: Any, t: Any, train: bool = False) -> Any:
        return super().loss(x, t, train) * len(x)

    def gradient(self, x: Any, t: Any) -> Any:
        return {name: g * len(x) for name, g in super().gradient(x, t).items()}


class Centred(Net):
    def predict(self, x: Any, train: bool = False) -> Any:
        return super().predict(x - x.mean(axis=0), train)


class CentredInTraining(Net):
    """As batch normalisation: only while it is trained are rows computed together."""

    def predict(self, x: Any, train: bool = False) -> Any:
        return super().predict(x - x.mean(axis=0) if train else x, train)


def test_rows_that_are_summed_or_computed_together() -> None:
    found = tried(made(Summed))
    assert found.warnings == [
        "the loss of Summed is a sum over the rows: with twice the rows it is twice as large; "
        "return the mean, or the weights depend on --shards and --batch-size"
    ]
    assert found.coupled == "the loss of Summed is a sum over the rows"
    assert tried(made(Summed), shards=1).warnings == found.warnings
    # dropout draws other masks for other rows: of the gradient nothing can be told
    assert tried(made(Summed, drop=True)).warnings == found.warnings
    for kind, what in ((Centred, "loss"), (CentredInTraining, "gradient")):
        found = tried(made(kind))
        (told,) = found.warnings
        assert told.startswith(f"the {what} of {kind.__name__} is no mean over the rows, which")
        assert "with --shards 1" in told
        assert found.coupled.startswith(f"the {what} of {kind.__name__} is no mean over the rows")
        alone = tried(made(kind), shards=1)
        assert alone == DryRun([], found.coupled)


class Norm:
    """Batch normalisation with running averages, which begin at 0, so that outputs saturate."""

    mean, variance = 0.0, 0.0

    def forward(self, x: Any, train: bool) -> Any:
        mean, variance = self.mean, self.variance
        if train:
            mean, variance = x.mean(axis=0), x.var(axis=0)
            self.mean = 0.9 * self.mean + 0.1 * mean
            self.variance = 0.9 * self.variance + 0.1 * variance
        self.std = np.sqrt(variance + 1e-7)
        self.y = (x - mean) / self.std
        return self.y

    def backward(self, dy: Any) -> Any:
        return (dy - dy.mean(axis=0) - self.y * (dy * self.y).mean(axis=0)) / self.std


class Normalised(Net):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.norm = Norm()
        self.params["W2"] *= 10

    def predict(self, x: Any, train: bool = False) -> Any:
        z = self.norm.forward(self.layers["Affine1"].forward(x), train)
        return self.layers["Affine2"].forward(self.layers["Relu"].forward(z))

    def loss(self, x: Any, t: Any, train: bool = False) -> Any:
        y = self.predict(x, train)
        power = np.exp(y - y.max(axis=1, keepdims=True))
        chances = power / power.sum(axis=1, keepdims=True)
        self.d = (chances - t) / len(x)
        return -np.mean(np.log(np.sum(t * chances, axis=1) + 1e-7))

    def gradient(self, x: Any, t: Any) -> Any:
        self.loss(x, t, train=True)
        dz = self.layers["Relu"].backward(self.layers["Affine2"].backward(self.d))
        self.layers["Affine1"].backward(self.norm.backward(dz))
        first, last = self.layers["Affine1"], self.layers["Affine2"]
        return {"W1": first.dW, "b1": first.db, "W2": last.dW, "b2": last.db}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rows", [4, 30])
def test_batch_normalisation_is_not_refused(seed: int, rows: int) -> None:
    found = tried(made(Normalised, seed), X[:rows], T[:rows])
    assert found.coupled.startswith("the gradient of Normalised is no mean over the rows, which")


def test_shapes_that_layers_remember_are_no_state() -> None:
    class Remembering(Net):
        """Its layers keep the shape of their input, a tuple, for the way back."""

        def predict(self, x: Any, train: bool = False) -> Any:
            self.shape = x.shape
            return super().predict(x, train)

    model = OwnModel(made(Remembering), "Remembering")
    rows = X[:8], np.eye(3)[T[:8]], 0
    assert watched(model, *rows) == DetectedState({}, [])


def test_a_number_of_rows_that_is_fixed_is_no_finding() -> None:
    class Fixed(Net):
        def loss(self, x: Any, t: Any, train: bool = False) -> Any:
            assert len(x) == 30
            return super().loss(x, t, train)

    assert tried(made(Fixed)) == DryRun([], "")


class Convolution(Net):
    def predict(self, x: Any, train: bool = False) -> Any:
        _, _, height, width = x.shape
        return super().predict(x.reshape(len(x), height * width), train)


@pytest.mark.parametrize("samples", [(1, 4, 5), (4, 5)])
def test_images_that_come_flat(samples: tuple[int, ...]) -> None:
    images = X.reshape(30, *samples)
    hint = r"rows come flat, \(30, 20\): --model.input-shape 1,4,5 gives .* images, \(30, 1, 4, 5\)"
    with pytest.raises(OwnCodeError, match=hint) as caught:
        tried(made(Convolution), images)
    assert "height, width = x.shape" in caught.value.traceback
    assert tried(made(Convolution), images, form=SampleForm((1, 4, 5), 3, False)) == DryRun([], "")
    with pytest.raises(OwnCodeError) as caught:
        tried(made(Convolution), X)  # whose samples have one axis
    assert "input-shape" not in caught.value.what
