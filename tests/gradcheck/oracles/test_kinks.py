"""Kinks and curvature, told apart with the branches and without them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.gradcheck.oracles.kinks import Finding, Kink, Undecided, black_box, white_box
from dptrain.gradcheck.oracles.kinks import Smooth as SmoothFinding
from dptrain.gradcheck.reference.network import Batch, Reference
from dptrain.nn.activations import ReLU
from dptrain.nn.dense import Dense
from dptrain.nn.losses import SoftmaxCrossEntropy
from dptrain.nn.network import Network
from tests.gradcheck.smooth import UNIT, Smooth

Array = NDArray[Any]
DISTANCES = [1e-13, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4]


class Bent:
    """A smooth function with a kink along its first element, ``jump`` on each side of it."""

    def __init__(self, seed: int, distance: float) -> None:
        rng = np.random.default_rng(seed)
        self.smooth = Smooth(seed)
        self.x = self.smooth.x = rng.standard_normal(3)
        self.slope = float(self.smooth.gradient(self.x)[0])
        size = np.abs(self.smooth.gradient(self.x)).max()
        self.jump = float(size * 10 ** rng.uniform(-4, 1))
        self.kink = float(self.x[0]) + distance
        self.derivative = self.slope - (self.jump if distance else 0.0)
        self.noise = self.smooth.noise + 8 * UNIT * self.jump

    def value(self, x: Array) -> float:
        return self.smooth.value(x) + self.jump * abs(float(x[0]) - self.kink)

    def branched(self, x: Array) -> tuple[float, list[bytes]]:
        return self.value(x), [bytes([int(x[0] > self.kink)])]

    def look(self, box: str) -> Finding:
        if box == "white":
            return white_box(self.branched, self.x, [0], self.noise)[0]
        return black_box(self.value, self.x, [0], self.noise)[0]


@pytest.mark.parametrize("box", ["white", "black"])
def test_a_kink_is_found_with_both_slopes(box: str) -> None:
    for seed in range(60):
        f = Bent(seed, 0.0)
        found = f.look(box)
        assert isinstance(found, Kink)
        assert abs(found.left - (f.slope - f.jump)) <= found.error
        assert abs(found.right - (f.slope + f.jump)) <= found.error
        assert found.error < 1e-2 * f.jump


@pytest.mark.parametrize("box", ["white", "black"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_beside_a_kink_the_slope_of_that_side_is_accepted(box: str, distance: float) -> None:
    for seed in range(20):
        f = Bent(seed, distance)
        found = f.look(box)
        assert not isinstance(found, Undecided)
        assert found.accepts(f.derivative)
        if distance >= 1e-6:
            assert isinstance(found, SmoothFinding)


@given(st.integers(0, 2**32))
def test_smooth_functions_are_not_flagged(seed: int) -> None:
    f = Smooth(seed)
    found = black_box(f.value, f.x, range(3), f.noise)
    white = white_box(lambda x: (f.value(x), [b"always"]), f.x, range(3), f.noise)
    for one, other, slope in zip(found, white, f.gradient(f.x), strict=True):
        assert isinstance(one, SmoothFinding)
        assert isinstance(other, SmoothFinding)
        assert one.accepts(slope)
        assert other.accepts(slope)


@pytest.mark.parametrize(
    ("f", "left", "right"),
    [
        (lambda x: abs(x[0]), -1, 1),
        (lambda x: max(x[0], 0.0), 0, 1),
        (lambda x: max(3 * x[0], -2 * x[0]) + np.sin(x[0]), -1, 4),
        (lambda x: -abs(np.expm1(x[0])), 1, -1),
    ],
)
def test_textbook_kinks(f: Callable[[Array], float], left: float, right: float) -> None:
    for box in ("white", "black"):
        if box == "white":
            (found,) = white_box(
                lambda x: (float(f(x)), [bytes([int(x[0] > 0)])]), np.zeros(1), [0], UNIT
            )
        else:
            (found,) = black_box(lambda x: float(f(x)), np.zeros(1), [0], UNIT)
        assert isinstance(found, Kink)
        assert (found.left, found.right) == pytest.approx((left, right), abs=1e-5)
        assert found.accepts((left + right) / 2)
        assert found.accepts(left)
        assert not found.accepts(max(left, right) + 0.01)
        assert not found.accepts(min(left, right) - 0.01)
        assert found.accepts(max(left, right) + 0.01, tolerance=0.02)


@pytest.mark.parametrize("jump", [1e-4, 1e-6, 1e-8])
def test_small_kinks_are_found_without_branches(jump: float) -> None:
    def f(x: Array) -> float:
        return float(np.sin(x[0]) + jump * abs(x[0]))

    (found,) = black_box(f, np.zeros(1), [0], lambda value: 2 * UNIT * abs(value))
    assert isinstance(found, Kink)
    assert (found.left, found.right) == pytest.approx((1 - jump, 1 + jump), abs=jump / 10)


def test_a_branch_that_changes_nothing_is_no_kink() -> None:
    """A unit of ReLU that switches, but whose weight to the next layer is 0."""
    (found,) = white_box(lambda x: (np.sin(x[0]), [bytes([int(x[0] > 0)])]), np.zeros(1), [0], UNIT)
    assert isinstance(found, SmoothFinding)
    assert found.accepts(1.0)
    assert found.error < 1e-6


def test_kinks_without_end_are_undecided() -> None:
    def f(x: Array) -> tuple[float, list[bytes]]:
        return float(x[0]), [np.float64(x[0]).tobytes()]

    assert isinstance(white_box(f, np.ones(1), [0], UNIT)[0], Undecided)


def network_and_weights() -> tuple[Reference, Array, Array]:
    """Return a network, its weights, and of these those of the hidden layer: W and b."""
    rng = np.random.default_rng(1)
    network = Network(5, [Dense(4), ReLU(), Dense(3)])
    batch = Batch([rng.standard_normal((6, 5))], [rng.integers(3, size=6)], 0, 0)
    x = 0.5 * rng.standard_normal(network.size)
    return Reference(network, SoftmaxCrossEntropy(), batch), x, x[:24].reshape(6, 4)


UNIT_2 = {2, 6, 10, 14, 18, 22}


def test_a_network_with_one_row_at_a_kink() -> None:
    reference, x, hidden = network_and_weights()
    hidden[5, 2] = -(reference.batch.inputs[0] @ hidden[:5])[3, 2]
    gradient = reference.gradient(x, UNIT)
    found = white_box(reference.value, x, range(len(x)), gradient.loss_bound)
    assert {i for i, each in enumerate(found) if isinstance(each, Kink)} == UNIT_2
    assert {each.ties for each in found if isinstance(each, Kink)} == {1}
    for each, right in zip(found, gradient.total, strict=True):
        assert not isinstance(each, Undecided)
        assert each.accepts(right)
        assert not each.accepts(right + 1.0)
    (black,) = black_box(lambda x: float(reference.value(x)[0]), x, [22], gradient.loss_bound)
    white = found[22]
    assert isinstance(black, Kink)
    assert isinstance(white, Kink)
    assert (black.left, black.right) == pytest.approx((white.left, white.right), abs=1e-6)


def test_a_unit_without_weights_is_tied_on_all_rows() -> None:
    reference, x, hidden = network_and_weights()
    hidden[:, 2] = 0
    noise = reference.gradient(x, UNIT).loss_bound
    found = white_box(reference.value, x, range(len(x)), noise)
    assert {i for i, each in enumerate(found) if isinstance(each, Kink)} == UNIT_2
    assert {each.ties for each in found if isinstance(each, Kink)} == {6}


def test_generic_weights_of_a_network_are_smooth() -> None:
    reference, x, _ = network_and_weights()
    gradient = reference.gradient(x, UNIT)
    found = white_box(reference.value, x, range(len(x)), gradient.loss_bound)
    for each, right in zip(found, gradient.total, strict=True):
        assert isinstance(each, SmoothFinding)
        assert each.accepts(right)
        assert each.error < 1e-8
