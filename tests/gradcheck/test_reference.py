"""The reference: its gradients against the complex step, its bounds against what they bound."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.oracles.complex_step import complex_step
from dptrain.gradcheck.reference.bounded import UNITS, Bounded, gamma
from dptrain.gradcheck.reference.elementwise import SMOOTH, log_cosh
from dptrain.gradcheck.reference.tape import Node, backward
from dptrain.nn.losses import LogCosh
from tests.exchange.build import LOSSES, Data
from tests.exchange.build import UNITS as OUTPUTS
from tests.exchange.test_gradients import FLAT, NETWORKS, dense, experiment
from tests.nn.reference import ACTIVATIONS, FUNCTIONS, slopes
from tests.nn.test_rectifiers import applied

Described = dict[str, Any]
EVERY_LOSS = [(name, each) for name, some in LOSSES.items() for each in some]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


def described_loss(dataset: str, settings: Described) -> Described:
    layers = [FLAT, dense(5), {"layer": "tanh"}, dense(OUTPUTS[dataset])]
    return experiment(layers, "hinge", dataset) | settings


def every_subject() -> list[Described]:
    networks = [experiment(n, "softmax-cross-entropy", "classes") for n in NETWORKS.values()]
    return networks + [described_loss(*each) for each in EVERY_LOSS]


def somewhere(local: Local) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(8)
    w = local.job.initial_parameters()
    found: np.ndarray[Any, Any] = w + 0.1 * random.standard_normal(len(w)).astype(w.dtype)
    return found


@pytest.mark.parametrize(
    "described", every_subject(), ids=lambda d: f"{len(d['layers'])}-{d['loss']}"
)
def test_it_agrees_with_the_complex_step_and_with_backpropagation(
    described: Described, data: Data
) -> None:
    """Three ways that share nothing but the formulas: a tape, imaginary parts, the real layers."""
    local = Local(data.job(described))
    w = somewhere(local)
    reference = local.reference(0)
    assert reference is not None
    found = reference.gradient(w, UNITS["float64"])
    trained = [t for t in local.job.network.all_tensors() if t.trained]
    indices = np.concatenate([np.arange(t.start, t.stop) for t in trained])
    steps = complex_step(reference, w, indices)
    size = np.abs(found.total[indices]).max()
    assert np.abs(steps - found.total[indices]).max() <= 1e-14 * size
    own = local.analytic(w, 0).gradient[indices]
    assert (np.abs(own - found.total[indices]) <= 2 * found.bound[indices]).all()
    assert np.abs(local.loss(w, 0) - found.loss) <= 2 * found.loss_bound


@pytest.mark.parametrize(
    "described", every_subject(), ids=lambda d: f"{len(d['layers'])}-{d['loss']}"
)
def test_float32_stays_within_its_bound_and_the_bound_is_no_wish(
    described: Described, data: Data
) -> None:
    local = Local(data.job(described | {"dtype": "float32"}))
    w = somewhere(local)
    reference = local.reference(0)
    assert reference is not None
    found = reference.gradient(w.astype(float), UNITS["float32"])
    error = np.abs(local.analytic(w, 0).gradient.astype(float) - found.total)
    trained = np.concatenate(
        [np.full(t.stop - t.start, t.trained) for t in local.job.network.all_tensors()]
    )
    assert (error <= found.bound)[trained].all()
    kinds = {layer.kind for _, layer, _, _ in reference.network.row}
    if not kinds & {"batchnorm", "layernorm", "residual"}:  # whose bounds multiply
        assert error[trained].max() > 1e-4 * found.bound[trained].max()


def test_operations_bound_what_float32_does() -> None:
    """Every operation on random numbers, in float32 and in float64."""
    random = np.random.default_rng(3)
    unit = UNITS["float32"]
    for _ in range(50):
        a, b = (random.standard_normal((7, 7)).astype(np.float32) for _ in range(2))
        x, y = (Bounded(each.astype(float), np.zeros((7, 7)), unit) for each in (a, b))
        pairs = [
            (x + y, a + b), (x - y, a - b), (x * y, a * b), (x / y, a / b), (x @ y, a @ b),
            (x.sum(0), a.sum(axis=0)), (x.exp(), np.exp(a)), ((x * x).sqrt(), np.sqrt(a * a)),
            ((x * x).log(), np.log(a * a)),
        ]  # fmt: skip
        for bounded, found in pairs:
            assert bounded.error is not None
            assert (np.abs(found.astype(float) - bounded.value) <= bounded.error).all()


def log_cosh_in_float32(x: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    block = x.reshape(-1, 1, 1)
    bound = LogCosh().bind([block], [np.zeros_like(block)])
    return np.array(bound.losses()), bound.backward(1)[0].ravel()


# Smooth functions of one number: the reference's, the definition, its slope, and the real code.
SMOOTH_ONES: dict[str, tuple[Any, Any, Any, Any]] = {
    str(layer): (
        partial(SMOOTH[type(layer)], layer),
        FUNCTIONS[layer],
        partial(slopes, layer),
        partial(applied, layer),
    )
    for layer in ACTIVATIONS
    if type(layer) in SMOOTH
}
SMOOTH_ONES["log-cosh"] = (log_cosh, lambda x: np.log(np.cosh(x)), np.tanh, log_cosh_in_float32)


@pytest.mark.parametrize("name", SMOOTH_ONES)
def test_smooth_functions_bound_their_rounding_and_what_comes_in(name: str) -> None:
    function, definition, slope_of, real = SMOOTH_ONES[name]
    x = np.linspace(-9.8, 9.8, 4001).astype(np.float32)  # GELU ends at 10: what is left is 1e-22
    exact = x.astype(float)
    for doubt in (0.0, 1e-3, 0.1):
        found = function(Node(Bounded(exact, np.full(x.shape, doubt), UNITS["float32"])))
        if found.pull is None:
            assert name == "Identity()"
            continue
        (slope,) = found.pull(found.bounded.exactly(np.ones(x.shape)))
        ways = [(definition(exact + each), slope_of(exact + each)) for each in (-doubt, doubt)]
        for value, by in [*ways, real(x.copy())] if not doubt else ways:
            assert (np.abs(value - found.value) <= found.bounded.error).all()
            assert (np.abs(by - slope.value) <= slope.error).all()


def test_a_bound_of_a_difference_knows_of_the_cancellation() -> None:
    one = Bounded(np.array([1.0]), np.array([1e-8]), 2.0**-53)
    found = one - one
    assert found.value == 0
    assert found.error is not None
    assert found.error[0] >= 2e-8


def test_gamma_is_that_of_the_book() -> None:
    assert gamma(3, 0.1) == pytest.approx(0.3 / 0.7)


def test_a_value_that_is_used_twice_gets_both_gradients() -> None:
    x = Node(Bounded(np.array([3.0]), np.zeros(1), 2.0**-53))
    backward((x * x + x).sum(0))
    assert x.gradient is not None
    np.testing.assert_allclose(x.gradient.value, [7.0])
