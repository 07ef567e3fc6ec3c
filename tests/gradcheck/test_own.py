"""Networks of the user's own: by the complex step or differences, and what is wrong with them."""

from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.calls import assert_gradients, check
from dptrain.gradcheck.report import Report
from dptrain.gradcheck.verdict import Verdict

ALONE: dict[str, Any] = {"workers": (1,), "exchange": ("inline",), "check_seed": 1}
NUMBERS: dict[str, Any] = {"workers": (), "check_seed": 1}
ACCOUNTED = (
    "the loss has log(y + 1e-07), and the gradient is that of log(y): the difference is known, "
    "and accounted for"
)


def rows() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 4))
    return x, np.eye(3)[random.integers(0, 3, 60)]


class TwoLayers:
    """The notes' network, with the ε in the logarithm of its loss."""

    epsilon = 1e-7

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self.params = {
            "W1": random.standard_normal((4, 5)),
            "b1": np.zeros(5),
            "W2": random.standard_normal((5, 3)),
            "b2": np.zeros(3),
        }

    def forward(self, x: Any) -> tuple[Any, Any]:
        p = self.params
        hidden = 1 / (1 + np.exp(-(x @ p["W1"] + p["b1"])))
        power = np.exp(hidden @ p["W2"] + p["b2"])
        return hidden, power / power.sum(axis=1, keepdims=True)

    def predict(self, x: Any) -> Any:
        return self.forward(x)[1]

    def loss(self, x: Any, t: Any) -> Any:
        return -np.sum(t * np.log(self.predict(x) + self.epsilon)) / len(x)

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        hidden, y = self.forward(x)
        dy = (y - t) / len(x)
        dz = self.activation(dy @ self.params["W2"].T, hidden)
        return self.changed(
            {"W1": x.T @ dz, "b1": dz.sum(axis=0), "W2": hidden.T @ dy, "b2": dy.sum(axis=0)}
        )

    def activation(self, dy: Any, hidden: Any) -> Any:
        return dy * hidden * (1 - hidden)

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients


def names(report: Report) -> set[str]:
    return {each.name for each in report.comparisons}


def test_the_complex_step_compares_all_elements() -> None:
    found = check(TwoLayers(), rows(), **ALONE)
    assert found.verdict is Verdict.PASS
    steps = [each for each in found.comparisons if each.name == "analytic = complex step"]
    assert sum(each.compared for each in steps) == 4 * 43
    assert max(t.detectable[0] for each in steps for t in each.tensors) < 1e-11


def test_an_epsilon_in_the_logarithm_is_accounted_for_and_told() -> None:
    found = check(TwoLayers(), rows(), **NUMBERS)
    assert found.verdict is Verdict.PASS
    assert found.remarks == [ACCOUNTED]


class Decayed(TwoLayers):
    """The notes' larger networks: a penalty in loss and gradient, beside the ε."""

    decay = 0.1
    forgotten = False

    def loss(self, x: Any, t: Any) -> Any:
        p = self.params
        return super().loss(x, t) + self.decay / 2 * (np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2))

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        for name in ("W1",) if self.forgotten else ("W1", "W2"):
            gradients[name] = gradients[name] + self.decay * self.params[name]
        return gradients


@pytest.mark.parametrize("decay", [1.0, 0.1, 1e-4])
def test_an_epsilon_beside_a_penalty_is_accounted_for_and_told(decay: float) -> None:
    network = Decayed()
    network.decay = decay
    found = check(network, rows(), **NUMBERS)
    assert found.verdict is Verdict.PASS
    assert found.remarks == [ACCOUNTED]


class Forgetful(Decayed):
    forgotten = True


class Exact(TwoLayers):
    epsilon = 0.0


def test_no_epsilon_is_told_where_there_is_none() -> None:
    assert check(Exact(), rows(), **NUMBERS).remarks == []


class Shifted(TwoLayers):
    """Its gradient is wrong by as much as the ε makes, but not as the ε does."""

    epsilon = 0.0

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return {name: g * (1 - 3e-7) for name, g in gradients.items()}


def test_what_only_looks_like_an_epsilon_fails() -> None:
    found = check(Shifted(), rows(), **NUMBERS)
    assert found.verdict is Verdict.FAIL
    assert found.failures[0].diagnoses[0].sentence.startswith("the gradient is 1 - 3e-07 times")


class OneElement(TwoLayers):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        gradients["W1"][2, 3] *= 1 + 1e-9
        return gradients


class Halved(TwoLayers):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients | {"b2": gradients["b2"] / 2}


class NoDerivative(TwoLayers):
    def activation(self, dy: Any, hidden: Any) -> Any:  # noqa: ARG002 - that is what is wrong
        return dy


class Summed(TwoLayers):
    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        return {name: g * len(x) for name, g in super().gradient(x, t).items()}


class FirstRow(TwoLayers):
    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        right = super().gradient(x, t)
        return right | {"b1": super().gradient(x[:1], t[:1])["b1"] / len(x)}


class LastRow(TwoLayers):
    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        found = super().gradient(x[:-1], t[:-1])
        return {name: g * (len(x) - 1) / len(x) for name, g in found.items()}


class Penalised(Exact):
    def loss(self, x: Any, t: Any) -> Any:
        p = self.params
        return super().loss(x, t) + 0.01 * (np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2))


class Accumulating(TwoLayers):
    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[str, Any] = {}

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        for name, g in gradients.items():
            self.sums[name] = self.sums.get(name, 0) + g
        return dict(self.sums)


class Unseeded(TwoLayers):
    def loss(self, x: Any, t: Any) -> Any:
        return super().loss(x, t) * (1 + 1e-3 * np.random.default_rng().random())


class Rounded(TwoLayers):
    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        found = super().gradient(x, t)
        return found | {"W2": found["W2"].astype("f2" if x.dtype == np.float32 else "f8")}


class Shrinking(TwoLayers):
    """Weight decay by changing the weights themselves."""

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        self.params["W1"] *= 0.999
        return gradients


class Dropping(TwoLayers):
    """A mask of dropout in the gradient, which the loss has not."""

    def activation(self, dy: Any, hidden: Any) -> Any:
        return dy * hidden * (1 - hidden) * (np.random.random(dy.shape) > 0.3)


class AcrossRows(TwoLayers):
    """Its softmax is over the rows, so that the gradient of b2 should be 0."""

    def forward(self, x: Any) -> tuple[Any, Any]:
        hidden, _ = super().forward(x)
        power = np.exp(hidden @ self.params["W2"] + self.params["b2"])
        return hidden, power / power.sum(axis=0)


class Overdone(Decayed):
    """The penalty's gradient counts twice."""

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return super().changed(super().changed(gradients))


class Stale(TwoLayers):
    """Keeps the weights of the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.turned: Any = None

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        if self.turned is None:
            self.turned = self.params["W2"].T.copy()
        hidden, y = self.forward(x)
        dy = (y - t) / len(x)
        dz = dy @ self.turned * hidden * (1 - hidden)
        return {"W1": x.T @ dz, "b1": dz.sum(axis=0), "W2": hidden.T @ dy, "b2": dy.sum(axis=0)}


class SummedAltogether(Summed):
    """The gradient is right: that of a loss which is no mean."""

    epsilon = 0.0

    def loss(self, x: Any, t: Any) -> Any:
        return super().loss(x, t) * len(x)


class Divided(Exact):
    """The gradient of the penalty is right; but 1 / n of it counts n times over the shards."""

    def loss(self, x: Any, t: Any) -> Any:
        return super().loss(x, t) + np.sum(self.params["W1"] ** 2) / 2 / len(x)

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        found = super().gradient(x, t)
        return found | {"W1": found["W1"] + self.params["W1"] / len(x)}


@pytest.mark.parametrize(
    ("network", "kind", "words"),
    [
        (SummedAltogether, "rows-sum", "the loss is a sum over the rows: with twice the rows"),
        (Divided, "rows-divided", "is divided by the number of rows"),
        (LastRow, "rows-lost", "rows 12 are not counted"),
        (Penalised, "weight-decay-missing", "0.02 W1, 0.02 W2 is missing: the loss has a penalty"),
        (Accumulating, "stale-gradient", "W1, b1, W2, b2 depends on what an earlier call has left"),
        (Unseeded, "not-repeatable", "another loss"),
        (Shrinking, "weights-changed", "the code changes the weights W1 itself"),
        (Dropping, "random-gradient", "the gradient of W1, b1 depends on random numbers"),
        (AcrossRows, "loss-derivative", "all tensors are wrong"),
        (Overdone, "weight-decay-factor", "0.1 W1, 0.1 W2 is too much"),
        (Forgetful, "weight-decay-missing", "0.1 W2 is missing"),
        (Rounded, "float32-only", "the gradient of W2 is wrong in float32 only"),
        (Stale, "activation-derivative", "W1, b1 are wrong, W2, b2 right"),
        (OneElement, "tensor", "one element is wrong, W1[2, 3], and everything else is right"),
        (Halved, "scaled", "b2 is 0.5 times what it should be"),
        (NoDerivative, "activation-derivative", "W1, b1 are wrong, W2, b2 right: what is passed"),
        (Summed, "sum-not-mean", "W1, b1, W2, b2 is the sum over the rows instead of their mean"),
        (FirstRow, "bias-axis", "b1 is missing the sum over rows: it is that of the first row"),
    ],
)
def test_what_is_wrong_is_named(network: type[TwoLayers], kind: str, words: str) -> None:
    found = check(network(), rows(), **NUMBERS)
    assert found.verdict is Verdict.FAIL
    likeliest, *others = (each.diagnoses[0] for each in found.failures)
    assert all(each.kind == "follows" for each in others)
    assert likeliest.kind == kind
    assert words in likeliest.sentence


class Hardest(Exact):
    """The loss of the hardest row: no mean, but meant, and with the right gradient."""

    def loss(self, x: Any, t: Any) -> Any:
        return -np.log(np.sum(t * self.predict(x), axis=1).min())

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        i = int(np.sum(t * self.predict(x), axis=1).argmin())
        return super().gradient(x[i : i + 1], t[i : i + 1])


class Centred(Exact):
    """Sees each row beside the others, as batch normalisation does."""

    def forward(self, x: Any) -> tuple[Any, Any]:
        return super().forward(x - x.mean(axis=0))

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        return super().gradient(x, t) | {
            "W1": super().gradient(x - x.mean(axis=0), t)["W1"],
        }


@pytest.mark.parametrize("network", [Hardest, Centred])
def test_rows_that_are_computed_together_are_told_of(network: type[TwoLayers]) -> None:
    found = check(network(), rows(), **NUMBERS)
    assert found.verdict is Verdict.PASS
    assert any("the loss is no mean over the rows, which are computed" in r for r in found.remarks)


def test_an_assertion_tells_it() -> None:
    with pytest.raises(AssertionError, match=r"(?s)analytic = .*b2\[.*0\.5 times.*check_seed=1"):
        assert_gradients(Halved(), rows(), **NUMBERS)


class Kept(TwoLayers):
    """Keeps its arrays elsewhere too, as networks of layers do: no complex step is possible."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = self.params["W1"]

    def forward(self, x: Any) -> tuple[Any, Any]:
        assert self.kept.dtype == float
        hidden = np.tanh(x @ self.kept + self.params["b1"])
        power = np.exp(hidden @ self.params["W2"] + self.params["b2"])
        return hidden, power / power.sum(axis=1, keepdims=True)

    def activation(self, dy: Any, hidden: Any) -> Any:
        return dy * (1 - hidden**2)


def test_differences_take_over_where_there_is_no_complex_step() -> None:
    found = check(Kept(), rows(), **NUMBERS)
    assert found.verdict is Verdict.PASS
    assert "analytic = complex step" not in names(found)
    assert "analytic = central differences" in names(found)
    assert "differences take their place; the loss has log(y + 1e-07)" in found.remarks[0]
