"""Every rule against its paper's formulas, written out in float64 for one element at a time."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.experiment.setting_types import OptimizerName
from dptrain.optim.rules import (
    RULES,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    AnyRule,
    Lion,
    Momentum,
    Nesterov,
    RMSprop,
)
from dptrain.optim.schedules import Constant, Exponential
from tests.optim.build import LR, Array, random_steps, trained, updater

Weights = list[float]
Formula = Callable[..., Weights]


def sgd(w: float, gradients: Sequence[float]) -> Weights:
    found = []
    for g in gradients:
        w -= LR * g
        found.append(w)
    return found


def momentum(w: float, gradients: Sequence[float], mu: float) -> Weights:
    v, found = 0.0, []
    for g in gradients:  # as the book writes it
        v = mu * v - LR * g
        w += v
        found.append(w)
    return found


def nesterov(w: float, gradients: Sequence[float], mu: float) -> Weights:
    """Sutskever's look-ahead: the gradient is that at ``θ + μ v``, which here is ``w``."""
    v, theta, found = 0.0, w, []
    for g in gradients:
        v = mu * v - LR * g
        theta += v
        found.append(theta + mu * v)  # where the next gradient is taken
    return found


def adagrad(w: float, gradients: Sequence[float], epsilon: float) -> Weights:
    h, found = 0.0, []
    for g in gradients:
        h += g**2
        w -= LR / (math.sqrt(h) + epsilon) * g
        found.append(w)
    return found


def rmsprop(w: float, gradients: Sequence[float], rho: float, epsilon: float) -> Weights:
    h, found = 0.0, []
    for g in gradients:
        h = rho * h + (1 - rho) * g**2
        w -= LR / (math.sqrt(h) + epsilon) * g
        found.append(w)
    return found


def adam(
    w: float,
    gradients: Sequence[float],
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float = 0,
) -> Weights:
    """Algorithm 1 of the paper; with ``decay``, algorithm 2 of Loshchilov and Hutter."""
    m, v, found = 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        w = w - LR * (m_hat / (math.sqrt(v_hat) + epsilon)) - LR * decay * w
        found.append(w)
    return found


def lion(
    w: float, gradients: Sequence[float], beta1: float, beta2: float, *, decay: float = 0.0
) -> Weights:
    """Algorithm 2 of the paper."""
    m, found = 0.0, []
    for g in gradients:
        c = beta1 * m + (1 - beta1) * g
        w = w - LR * ((c > 0) - (c < 0)) - LR * decay * w
        m = beta2 * m + (1 - beta2) * g
        found.append(w)
    return found


# name: rule, formula, its hyperparameters; the second of each kind has the defaults
CASES: dict[str, tuple[AnyRule, Formula, tuple[float, ...]]] = {
    "sgd": (SGD(), sgd, ()),
    "momentum": (Momentum(momentum=0.8), momentum, (0.8,)),
    "momentum by default": (Momentum(), momentum, (0.9,)),
    "momentum 0": (Momentum(momentum=0), sgd, ()),
    "nesterov": (Nesterov(momentum=0.8), nesterov, (0.8,)),
    "nesterov by default": (Nesterov(), nesterov, (0.9,)),
    "adagrad": (AdaGrad(epsilon=1e-3), adagrad, (1e-3,)),
    "adagrad by default": (AdaGrad(), adagrad, (1e-7,)),
    "rmsprop": (RMSprop(decay=0.7, epsilon=1e-3), rmsprop, (0.7, 1e-3)),
    "rmsprop by default": (RMSprop(), rmsprop, (0.99, 1e-7)),
    "adam": (Adam(0.7, 0.9, 1e-3), adam, (0.7, 0.9, 1e-3)),
    "adam by default": (Adam(), adam, (0.9, 0.999, 1e-8)),
    "adam without memory": (Adam(0, 0, 1e-3), adam, (0, 0, 1e-3)),
    "adamw": (AdamW(0.7, 0.9, 1e-3), adam, (0.7, 0.9, 1e-3)),
    "adamw by default": (AdamW(), adam, (0.9, 0.999, 1e-8)),
    "lion": (Lion(0.6, 0.8), lion, (0.6, 0.8)),
    "lion by default": (Lion(), lion, (0.9, 0.99)),
}
EACH = [name for name in CASES if " " not in name]


def expected(name: str, w: Array, gradients: list[Array], **more: float) -> Array:
    """Return the weights after each step, by the formulas: ``(steps, size)``."""
    _, formula, hyperparameters = CASES[name]
    columns = [
        formula(value, each, *hyperparameters, **more)
        for value, each in zip(w.tolist(), np.array(gradients).T.tolist(), strict=True)
    ]
    return np.array(columns).T


def test_every_rule_is_tested() -> None:
    assert set(EACH) == set(RULES) == set(get_args(OptimizerName))
    assert all(type(CASES[name][0]) is RULES[name] for name in EACH)
    assert {kind.__struct_config__.tag for kind in RULES.values()} == set(EACH)


@pytest.mark.parametrize("name", list(CASES))
def test_the_formulas_of_the_papers(name: str) -> None:
    w, gradients = random_steps()
    found = trained(CASES[name][0], w, gradients)
    np.testing.assert_allclose(found, expected(name, w, gradients), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", list(CASES))
def test_float32_is_the_same_up_to_its_rounding(name: str) -> None:
    w, gradients = random_steps()
    w, gradients = w.astype(np.float32), [g.astype(np.float32) for g in gradients]
    found = trained(CASES[name][0], w, gradients)
    assert all(each.dtype == np.float32 for each in found)
    exact = expected(name, w, gradients)
    # Each step rounds the new weight once, and its change some ten times: relatively, since all
    # that is added up under roots and in denominators is positive. Velocities and means do add
    # signs, but their errors are relative to the largest that entered, whose change was as large.
    u = np.finfo(np.float32).eps / 2
    path = np.vstack([w, exact])
    largest_change = np.abs(np.diff(path, axis=0)).max(axis=0)
    bound = 5 * u * (np.abs(path).max(axis=0) + 10 * largest_change)
    assert (np.abs(found - exact) <= bound).all()


@pytest.mark.parametrize("name", EACH)
@given(cuts=st.sets(st.integers(1, 49), max_size=5), dtype=st.sampled_from(["float32", "float64"]))
def test_cutting_the_vector_up_changes_no_bit(name: str, dtype: str, cuts: set[int]) -> None:
    rule = CASES[name][0]
    w, gradients = random_steps()
    settings: Any = {"weight_decay": 0.1, "decaying": [(0, 20), (25, 50)]}
    whole = trained(rule, w.astype(dtype), gradients, **settings)[-1]
    inside = trained(rule, w.astype(dtype), gradients, edges=sorted(cuts), **settings)[-1]
    assert inside.tobytes() == whole.tobytes()
    plain = trained(rule, w.astype(dtype), gradients)[-1]
    apart = [  # memory of their own, so other alignments
        trained(rule, w[a:b].astype(dtype), [g[a:b] for g in gradients])[-1]
        for a, b in pairwise([0, *sorted(cuts), 50])
    ]
    assert np.concatenate(apart).tobytes() == plain.tobytes()


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_new_arrays_get_what_old_ones_would(name: str, decay: float) -> None:
    """Two states in turn, as the star exchange keeps them, against one updated in place."""
    rule = CASES[name][0]
    w, gradients = random_steps()
    settings: Any = {"weight_decay": decay, "decaying": [(0, 30)]}
    inside = trained(rule, w, gradients, **settings)
    apply = updater(rule, "float64", **settings)
    g = np.empty_like(w)
    states = [
        (np.full_like(w, np.nan), [np.full_like(w, np.nan) for _ in rule.slots]) for _ in "01"
    ]
    states[0][0][...] = w
    for slot in states[0][1]:
        slot[...] = 0
    turns = [
        apply.bind(0, 50, old_w, g, old, new_w, new)
        for (old_w, old), (new_w, new) in (states, states[::-1])
    ]
    for step, gradient in enumerate(gradients):
        g[...] = gradient
        now, new = states[step % 2], states[1 - step % 2]
        before = [now[0].copy(), *(s.copy() for s in now[1])]
        apply.update(step, turns[step % 2])
        assert new[0].tobytes() == inside[step].tobytes()
        after = [now[0], *now[1]]
        assert all(a.tobytes() == b.tobytes() for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_decay_goes_past_the_moments(name: str) -> None:
    w, gradients = random_steps()
    found = trained(CASES[name][0], w, gradients, weight_decay=0.1, decaying=[(0, 50)])
    exact = expected(name, w, gradients, decay=0.1)
    np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in EACH if name not in ("adamw", "lion")])
def test_other_rules_see_the_decay_as_part_of_the_gradient(name: str) -> None:
    rule = CASES[name][0]
    w, gradients = random_steps(steps=4)
    path = [w, *trained(rule, w, gradients, weight_decay=0.1, decaying=[(0, 50)])]
    whole = [g + 0.1 * w for g, w in zip(gradients, path, strict=False)]
    np.testing.assert_allclose(path[1:], expected(name, w, whole), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", EACH)
def test_the_rate_is_that_of_the_step(name: str) -> None:
    """Halving rates: the slots are as with a constant rate, each change is that much smaller."""
    rule = CASES[name][0]
    w, gradients = random_steps()
    constant = np.diff([w, *trained(rule, w, gradients)], axis=0)
    halving = Exponential(lr=LR, rate=0.5, every=1)
    found = np.diff([w, *trained(rule, w, gradients, schedule=halving)], axis=0)
    np.testing.assert_allclose(
        found, constant * 0.5 ** np.arange(5)[:, None], rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("name", EACH)
def test_a_zero_gradient_at_the_start_moves_nothing(name: str) -> None:
    w, _ = random_steps()
    found = trained(CASES[name][0], w, [np.zeros(50)] * 3)
    assert all(each.tobytes() == w.tobytes() for each in found)


@pytest.mark.parametrize("name", ["adam by default", "adamw by default"])
def test_adam_after_very_many_steps(name: str) -> None:
    """The bias corrections tend to 1 and stay finite."""
    rule = CASES[name][0]
    apply = updater(rule, "float64", schedule=Constant(lr=LR))
    w, g, slots = np.zeros(1), np.ones(1), [np.full(1, 10.0), np.full(1, 1000.0)]
    apply.update(10**7, apply.bind(0, 1, w, g, slots, w, slots))
    # the slots hold running means of exactly 1
    assert w[0] == pytest.approx(-LR, rel=1e-7)


@pytest.mark.parametrize("name", list(CASES))
def test_rules_travel_as_plain_data(name: str) -> None:
    rule = CASES[name][0]
    assert msgspec.json.decode(msgspec.json.encode(rule), type=AnyRule) == rule


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"optimizer": "adamm"}, "adamm"),
        ({"optimizer": "momentum", "momentum": 1.0}, r"< 1.0 - at `\$\.momentum`"),
        ({"optimizer": "nesterov", "momentum": -0.1}, r">= 0.0 - at `\$\.momentum`"),
        ({"optimizer": "adam", "beta2": 1.0}, r"< 1.0 - at `\$\.beta2`"),
        ({"optimizer": "rmsprop", "epsilon": 0}, r"> 0.0 - at `\$\.epsilon`"),
        ({"optimizer": "sgd", "momentum": 0.9}, "unknown field `momentum`"),
    ],
)
def test_hyperparameters_have_ranges(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(plain, AnyRule)
