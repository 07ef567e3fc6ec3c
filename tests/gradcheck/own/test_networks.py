"""Networks as users write them: no right one may FAIL, and with one slip nearly every one must.

``DPTRAIN_OWN_CHECKS=2000`` checks as many of both; `scripts/nightly` does. What is reported can be
done again alone: ``python -m tests.gradcheck.own.harness SEED [SLIP]``. What the networks are drawn
from is right, or a fault there would be blamed on the checker: it is compared with differences.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.verdict import Verdict
from tests.gradcheck.own import layers
from tests.gradcheck.own.harness import Judged, Prepared, clean, with_slip
from tests.gradcheck.own.layers import Array
from tests.gradcheck.own.networks import Penalty

CHECKS = int(os.environ.get("DPTRAIN_OWN_CHECKS", "48"))
# Seeds in parts, so that cores can share them. So much of each part may stay open, or one.
PARTS = [range(i, CHECKS, 4) for i in range(min(4, CHECKS))]
OPEN = 0.05


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("data"))


def told(found: list[Judged]) -> str:
    return "\n".join(["", *map(str, found)])


def assert_few(open_: list[Judged], seeds: range) -> None:
    assert len(open_) <= max(1, OPEN * len(seeds)), told(open_)


@pytest.mark.parametrize("seeds", PARTS)
def test_no_right_network_fails_and_few_stay_open(prepared: Prepared, seeds: range) -> None:
    judged = [clean(seed, prepared) for seed in seeds]
    failed = [each for each in judged if each.verdict is Verdict.FAIL]
    assert not failed, told(failed)
    assert_few([each for each in judged if each.verdict is Verdict.INCONCLUSIVE], seeds)


@pytest.mark.parametrize("seeds", PARTS)
def test_a_slip_fails(prepared: Prepared, seeds: range) -> None:
    judged = [each for seed in seeds if (each := with_slip(seed, prepared))]
    assert len(judged) > len(seeds) / 2  # the others change nothing that could be seen
    assert_few([each for each in judged if each.verdict is not Verdict.FAIL], seeds)


RANDOM = np.random.default_rng(3)
ROWS, IMAGES = RANDOM.standard_normal((6, 4)), RANDOM.standard_normal((3, 2, 5, 6))
LABELS, NUMBERS = np.arange(6) % 4, RANDOM.standard_normal((6, 4))
W, B, KERNELS = (
    RANDOM.standard_normal((4, 3)),
    RANDOM.standard_normal(4),
    RANDOM.standard_normal((3, 2, 3, 3)),
)
ELEMENTWISE = ("Relu", "LeakyRelu", "Abs", "Clip", "TopK", "Sigmoid", "Tanh", "Softplus")
LAYERS: list[tuple[Callable[[], Any], Array]] = [
    *((getattr(layers, name), ROWS) for name in ELEMENTWISE),
    (lambda: layers.Affine(W, B[:3]), ROWS),
    (lambda: layers.Affine(RANDOM.standard_normal((60, 3)), B[:3]), IMAGES),
    *((lambda scaled=scaled: layers.Dropout(scaled), ROWS) for scaled in (False, True)),
    (lambda: layers.BatchNorm(B, ROWS[0].copy(), made_late=True), ROWS),
    *((lambda pad=pad: layers.Convolution(KERNELS, B[:3], pad), IMAGES) for pad in (0, 1)),
    (lambda: layers.LoopConvolution(KERNELS, B[:3], 1), IMAGES),
    (layers.MaxPool, IMAGES),
]
LOSSES = [
    (layers.SoftmaxCrossEntropy(), ROWS, LABELS),
    (layers.SoftmaxCrossEntropy(), ROWS, np.eye(4)[LABELS]),
    (layers.Hinge(), ROWS, LABELS),
    (layers.SquaredError(), ROWS, NUMBERS),
    (layers.BinaryCrossEntropy(), ROWS[:, :1], LABELS[:, None] % 2),
]


def same_as_differences(found: Array, f: Callable[[], Array], x: Array) -> None:
    """Compare with the derivatives of ``f`` by the elements of an array that it reads."""
    wanted = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        kept, sides = x[place], []
        for h in (1e-5, -1e-5):
            x[place] = kept + h
            sides.append(f())
        x[place] = kept
        wanted[place] = (sides[0] - sides[1]) / 2e-5
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("make", "given"), LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_has_the_derivatives_of_its_outputs(
    make: Callable[[], Any], given: Array, training: bool
) -> None:
    layer, x = make(), given.copy()
    if isinstance(layer, layers.BatchNorm):
        layer.forward(x)

    def outputs() -> Array:
        np.random.seed(1)
        return layer.forward(x, training) if isinstance(layer, layers.Moded) else layer.forward(x)

    dy = np.random.default_rng(7).standard_normal(outputs().shape)
    dx = layer.backward(dy.copy())
    gradients = {name: getattr(layer, f"d{name}").copy() for name in layer.parameters}
    same_as_differences(dx, lambda: np.sum(dy * outputs()), x)
    for name, found in gradients.items():
        same_as_differences(found, lambda: np.sum(dy * outputs()), getattr(layer, name))


@pytest.mark.parametrize(("loss", "given", "t"), LOSSES)
def test_a_loss_has_the_derivatives_of_its_value(loss: layers.Loss, given: Array, t: Array) -> None:
    x = given.copy()
    loss.forward(x, t)
    same_as_differences(loss.backward(), lambda: loss.forward(x, t), x)


@pytest.mark.parametrize("squares", [True, False])
def test_a_penalty_has_the_derivatives_of_its_value(squares: bool) -> None:
    penalty, params = Penalty(0.3, squares, ("W1",)), {"W1": W.copy()}
    slope = penalty.slope(params["W1"])
    same_as_differences(slope, lambda: penalty.value(params), params["W1"])
