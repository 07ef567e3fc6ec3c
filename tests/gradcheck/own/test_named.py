"""Code of the user's own by the complex step or differences, and what is wrong with it, by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.calls import assert_gradients, check
from dptrain.gradcheck.report import Report
from dptrain.gradcheck.verdict import Verdict
from tests.gradcheck.own.layers import (
    Abs,
    Affine,
    Array,
    BatchNorm,
    BinaryCrossEntropy,
    Buffered,
    Clip,
    Dropout,
    Hinge,
    Layer,
    LeakyRelu,
    Relu,
    Sigmoid,
    Single,
    SoftmaxCrossEntropy,
    TopK,
)
from tests.gradcheck.own.networks import Penalty, Plain

NUMBERS: dict[str, Any] = {"workers": (), "check_seed": 1}
PASS, FAIL, UNSURE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
EPSILON = "the loss has log(y + {}), and the gradient is that of log(y): the difference is known"
NO_COMPLEX_STEP = "the loss cannot be computed with complex numbers: differences take their place"
COARSE = "the loss is rounded more than float64 would"
Changed = Callable[[dict[str, Any], Any], dict[str, Any]]


class Code(Plain):
    """Layers, of which a test may change the gradients: of what is right, and the network."""

    changed: Changed = staticmethod(lambda g, _: g)

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        return self.changed(super().gradient(x, t), self)


def code(*between: Layer, scale: float = 0.5, epsilon: float = 0.0, **given: Any) -> Code:
    """Return a network 6-5-3 with layers between the dense ones.

    Args:
        between: the layers; a ReLU unless given.
        scale: of the weights.
        epsilon: in the logarithm of the loss.
        given: ``loss``, ``widths``, ``dtype`` of the arrays, ``decay`` or ``changed``.
    """
    random, dtype = np.random.default_rng(3), given.get("dtype", float)
    n, m, k = given.get("widths", (6, 5, 3))
    first, last = ((scale * random.standard_normal(s)).astype(dtype) for s in [(n, m), (m, k)])
    layers = [Affine(first, np.zeros(m, dtype)), *(between or (Relu(),))]
    layers.append(Affine(last, np.zeros(k, dtype)))
    found = Code(layers, given.get("loss") or SoftmaxCrossEntropy(epsilon))
    if "decay" in given:
        found.penalty = Penalty(given["decay"] / 2, True, ("W1", list(found.params)[-2]))
    found.changed = given.get("changed", Code.changed)
    return found


def norm() -> BatchNorm:
    return BatchNorm(np.ones(5), np.zeros(5), made_late=True)


def checked(network: Any, **settings: Any) -> Report:
    """Return the report of a check in this process alone."""
    random = np.random.default_rng(0)
    binary = isinstance(getattr(network, "last", None), BinaryCrossEntropy)
    *_, last = network.params.values()
    inputs, classes = len(network.params["W1"]), 2 if binary else last.size
    t = random.integers(0, classes, 60)
    data = random.standard_normal((60, inputs)), t.astype(float) if binary else t
    return check(network, data, **NUMBERS, **settings)


RIGHT: list[tuple[Any, Verdict, str]] = [
    (code(), PASS, ""),
    (code(Sigmoid()), PASS, ""),
    (code(scale=0.01, widths=(50, 20, 5)), PASS, ""),  # kinks near every point
    *((code(Buffered(), e), PASS, NO_COMPLEX_STEP) for e in (Relu(), LeakyRelu(), Clip(), TopK())),
    (code(Abs()), PASS, NO_COMPLEX_STEP),
    (code(loss=Hinge()), PASS, ""),
    (code(Relu(), Buffered(), loss=Hinge()), PASS, NO_COMPLEX_STEP),
    (code(epsilon=1e-7), PASS, EPSILON.format("1e-07")),
    (code(Buffered(), Relu(), epsilon=1e-7), PASS, EPSILON.format("1e-07")),
    (code(epsilon=1e-5), PASS, EPSILON.format("1e-05")),
    (code(epsilon=1.2345e-7), PASS, EPSILON.format("1.2345e-07")),
    (code(norm(), Relu(), Dropout(False), epsilon=1e-7, decay=0.1), PASS, EPSILON.format("1e-07")),
    (code(epsilon=1e-7, decay=1e-4), PASS, EPSILON.format("1e-07")),
    (code(norm(), Abs(), norm()), PASS, ""),  # biases whose gradient is 0 but for rounding
    (code(dtype=np.float32), PASS, "numbers are made with float64 copies"),
    (code(Relu(), Single()), UNSURE, COARSE),
    (code(Abs(), Single(), scale=0.01), UNSURE, ""),
    (code(Sigmoid(), loss=BinaryCrossEntropy(1e-7), widths=(6, 5, 1)), PASS, "log(y + 1e-07)"),
]


@pytest.mark.parametrize(("network", "verdict", "remark"), RIGHT)
def test_what_is_right_passes_and_what_is_special_is_told(
    network: Any, verdict: Verdict, remark: str
) -> None:
    found = checked(network, shards=2)  # which is quicker than five
    assert found.verdict is verdict
    assert remark in "; ".join(found.remarks)
    assert remark or EPSILON[:12] not in "; ".join(found.remarks)


def times(name: str, factor: float) -> Changed:
    return lambda g, _: g | {name: factor * g[name]}


def one_element(g: dict[str, Any], _: Any) -> dict[str, Any]:
    g["W1"][3, 2] += 1e-9 * np.abs(g["W1"]).max()
    return g


def three_in_the_middle(g: dict[str, Any], _: Any) -> dict[str, Any]:
    flat = g["W1"].reshape(-1)
    flat[np.abs(flat).argsort()[flat.size // 2 :][:3]] += 0.05 * np.abs(flat).max()
    return g


def last_column(g: dict[str, Any], _: Any) -> dict[str, Any]:
    g["W2"][:, 1] = 0
    return g


def shrinking(g: dict[str, Any], net: Any) -> dict[str, Any]:
    net.params["W1"] *= 0.999
    return g


def summed(g: dict[str, Any], net: Any) -> dict[str, Any]:
    sums = vars(net).setdefault("sums", {k: 0 * each for k, each in g.items()})
    sums.update({k: sums[k] + each for k, each in g.items()})
    return dict(sums)


def rounded(g: dict[str, Any], net: Any) -> dict[str, Any]:
    narrow = net.layers[0].x.dtype == np.float32
    return g | {"W2": g["W2"].astype("f2" if narrow else "f8")}


def dropped(g: dict[str, Any], _: Any) -> dict[str, Any]:
    return g | {"W1": g["W1"] * (np.random.random(g["W1"].shape) > 0.3)}


def penalty(factor: float) -> Changed:
    return lambda g, net: g | {k: g[k] + factor * 0.1 * net.params[k] for k in ("W1", "W2")}


class Rows(Code):
    """The gradient of some rows alone, as if they were all."""

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        found = super().gradient(x[:-1], t[:-1])
        return {name: g * (len(x) - 1) / len(x) for name, g in found.items()}


class FirstRow(Code):
    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        first = super().gradient(x[:1], t[:1])["b1"] / len(x)
        return super().gradient(x, t) | {"b1": first}


class Unseeded(Code):
    def loss(self, x: Array, t: Array) -> Array:
        return super().loss(x, t) * (1 + 1e-3 * np.random.default_rng().random())


class SummedLoss(Code):
    """The gradient is right: that of a loss which is no mean."""

    def loss(self, x: Array, t: Array) -> Array:
        return super().loss(x, t) * len(x)

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        return {name: g * len(x) for name, g in super().gradient(x, t).items()}


class Divided(Code):
    """The gradient of the penalty is right; but 1 / n of it counts n times over the shards."""

    def loss(self, x: Array, t: Array) -> Array:
        return super().loss(x, t) + np.sum(self.params["W1"] ** 2) / 2 / len(x)

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        found = super().gradient(x, t)
        return found | {"W1": found["W1"] + self.params["W1"] / len(x)}


class Maskless(Relu):
    def backward(self, dy: Array) -> Array:
        return dy


def of(kind: type[Code]) -> Code:
    found = code()
    found.__class__ = kind
    return found


PLACE = "W1, b1 are wrong, W2, b2 right: what is passed"
WRONG: list[tuple[Any, str, str]] = [
    (code(changed=times("b2", 0.5)), "scaled", "b2 is 0.5 times what it should be"),
    (code(changed=times("b1", 1 - 1e-6), epsilon=1e-7), "scaled", "b1 is 1 - 1e-06 times"),
    (code(changed=times("W2", 1 + 1e-5), dtype=np.float32), "scaled", "W2 is 1 + 1e-05 times"),
    (code(Buffered(), TopK(), changed=times("W1", 1.01)), "scaled", "W1 is 1.01 times"),
    (code(Relu(), Single(), changed=times("b2", 0.5)), "unlocated", "the gradient of b2"),
    (code(changed=lambda g, _: {k: 0.9999997 * v for k, v in g.items()}), "scaled", "1 - 3e-07"),
    (code(changed=lambda g, net: {k: v * len(net.layers[0].x) for k, v in g.items()}),
     "sum-not-mean", "W1, b1, W2, b2 is the sum over the rows instead of their mean"),
    (code(changed=one_element), "tensor", "one element is wrong, W1[3, 2], and everything else"),
    (code(changed=last_column), "zeros", "W2[:, 1] is 0 where it should not be"),
    (code(Buffered(), Relu(), changed=three_in_the_middle, widths=(60, 20, 5), scale=0.1),
     "unlocated", "the gradient of W1 is wrong along random directions"),
    (code(Maskless()), "activation-derivative", PLACE),
    (code(Buffered(), Maskless()), "activation-derivative", PLACE),
    (code(decay=0.1, changed=penalty(-1)), "weight-decay-missing", "0.1 W1, 0.1 W2 is missing"),
    (code(decay=0.1, changed=penalty(1)), "weight-decay-factor", "0.1 W1, 0.1 W2 is too much"),
    (code(changed=shrinking), "weights-changed", "the code changes the weights W1 itself"),
    (code(changed=summed), "stale-gradient", "W1, b1, W2, b2 depends on what an earlier call"),
    (code(changed=rounded), "float32-only", "the gradient of W2 is wrong in float32 only"),
    (code(changed=dropped), "random-gradient", "the gradient of W1 depends on random numbers"),
    (of(Rows), "rows-lost", "rows 12 are not counted"),
    (of(FirstRow), "bias-axis", "b1 is missing the sum over rows: it is that of the first row"),
    (of(Unseeded), "not-repeatable", "another loss"),
    (of(SummedLoss), "rows-sum", "the loss is a sum over the rows: with twice the rows"),
    (of(Divided), "rows-divided", "is divided by the number of rows"),
]  # fmt: skip


@pytest.mark.parametrize(("network", "kind", "words"), WRONG)
def test_what_is_wrong_is_named(network: Any, kind: str, words: str) -> None:
    found = checked(network)
    assert found.verdict is FAIL
    likeliest, *others = (each.diagnoses[0] for each in found.failures)
    assert (likeliest.kind, words in likeliest.sentence) == (kind, True), likeliest.sentence
    assert all(each.kind == "follows" for each in others)


def test_an_assertion_tells_it() -> None:
    x, t = np.random.default_rng(0).standard_normal((60, 6)), np.arange(60) % 3
    with pytest.raises(AssertionError, match=r"(?s)analytic = .*b2\[.*0\.5 times.*check_seed=1"):
        assert_gradients(code(changed=times("b2", 0.5)), (x, t), **NUMBERS)


class Hardest(Code):
    """The loss of the hardest row: no mean, but meant, and with the right gradient."""

    def loss(self, x: Array, t: Array) -> Array:
        return -np.log(self.chances(x, t).min())

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        i = int(self.chances(x, t).argmin())
        return super().gradient(x[i : i + 1], t[i : i + 1])

    def chances(self, x: Array, t: Array) -> Array:
        """Return the probability of each row's own class."""
        last: Any = self.last
        self.total(x, t, True)
        return np.sum(last.t * last.p, axis=1)


def test_rows_that_are_computed_together_are_told_of() -> None:
    found = checked(of(Hardest))
    assert found.verdict is PASS
    assert any("the loss is no mean over the rows, which are computed" in r for r in found.remarks)


def test_a_loss_that_saturates_with_any_mask_may_draw() -> None:
    network = code(Relu(), Dropout(False), epsilon=1e-7)
    network.params["b2"][0] = 200
    assert checked(network, shards=1).verdict is not FAIL


class OneMinus:
    """Logistic regression whose loss has lost digits where ``1 - p`` is all but 0."""

    def __init__(self, scale: float, factor: float) -> None:
        self.params = {"W1": scale * np.array([9.0, -8.0, 7.0, 6.0]), "b2": np.zeros(1)}
        self.factor = factor

    def chance(self, x: Array) -> Array:
        return 1 / (1 + np.exp(-(x @ self.params["W1"] + self.params["b2"])))

    def loss(self, x: Array, t: Array) -> Any:
        p = self.chance(x)
        return -np.mean(np.log(np.where(t == 1, p, 1 - p)))

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        d = (self.chance(x) - t) / len(x)
        return {"W1": self.factor * (x.T @ d), "b2": d.sum(keepdims=True)}


@pytest.mark.parametrize(
    ("scale", "factor", "verdict"),
    [(0.4, 1.0, PASS), (0.4, 1.001, FAIL), (1.0, 1.0, UNSURE), (1.0, 1.001, FAIL)],
)
def test_digits_that_the_loss_has_lost_are_no_error(
    scale: float, factor: float, verdict: Verdict
) -> None:
    x = np.random.default_rng(0).standard_normal((60, 4))
    with np.errstate(all="ignore"):
        found = check(OneMinus(scale, factor), (x, np.arange(60) % 3 % 2), shards=1, **NUMBERS)
    assert found.verdict is verdict
