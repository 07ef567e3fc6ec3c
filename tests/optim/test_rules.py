"""Every rule against its paper's formulas, written out in float64."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.optim.rules import (
    RULES,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    AnyRule,
    Momentum,
    Nesterov,
    RMSprop,
)
from dptrain.optim.schedules import Constant
from dptrain.optim.updater import Updater

Array = NDArray[np.float64]
LR = 0.05


def sgd(w: Array, gradients: list[Array]) -> Iterator[Array]:
    for g in gradients:
        w = w - LR * g
        yield w


def momentum(w: Array, gradients: list[Array]) -> Iterator[Array]:
    v = np.zeros_like(w)
    for g in gradients:  # as the book writes it
        v = 0.8 * v - LR * g
        w = w + v
        yield w


def nesterov(w: Array, gradients: list[Array]) -> Iterator[Array]:
    v = np.zeros_like(w)
    for g in gradients:  # Sutskever's look-ahead, as the book rearranges it
        v = 0.8 * v - LR * g
        w = w + 0.8 * v - LR * g
        yield w


def adagrad(w: Array, gradients: list[Array]) -> Iterator[Array]:
    h = np.zeros_like(w)
    for g in gradients:
        h = h + g**2
        w = w - LR * g / (np.sqrt(h) + 1e-3)
        yield w


def rmsprop(w: Array, gradients: list[Array]) -> Iterator[Array]:
    h = np.zeros_like(w)
    for g in gradients:
        h = 0.9 * h + 0.1 * g**2
        w = w - LR * g / (np.sqrt(h) + 1e-3)
        yield w


def adam(w: Array, gradients: list[Array]) -> Iterator[Array]:
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = 0.7 * m + 0.3 * g
        v = 0.9 * v + 0.1 * g**2
        corrected = (m / (1 - 0.7**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
        w = w - LR * corrected
        yield w


Reference = Callable[[Array, list[Array]], Iterator[Array]]
CASES: dict[str, tuple[AnyRule, Reference]] = {
    "sgd": (SGD(), sgd),
    "momentum": (Momentum(momentum=0.8), momentum),
    "nesterov": (Nesterov(momentum=0.8), nesterov),
    "adagrad": (AdaGrad(epsilon=1e-3), adagrad),
    "rmsprop": (RMSprop(decay=0.9, epsilon=1e-3), rmsprop),
    "adam": (Adam(0.7, 0.9, 1e-3), adam),
    "adamw": (AdamW(0.7, 0.9, 1e-3), adam),
}


def trained(rule: AnyRule, w: NDArray[Any], gradients: list[Array], **settings: Any) -> list[Any]:
    """Return the weights after each step, updated in place."""
    options: dict[str, Any] = {
        "weight_decay": 0.0,
        "clip_norm": None,
        "decaying": [(0, w.size)],
    } | settings
    updater = Updater(rule, Constant(lr=LR), dtype=w.dtype, **options)
    w = w.copy()
    g = np.empty_like(w)
    slots = [np.zeros_like(w) for _ in rule.slots]
    pieces = updater.bind(0, w.size, w, g, slots, w, slots)
    found = []
    for step, gradient in enumerate(gradients):
        g[...] = gradient
        factor = updater.clip_factor(updater.squared_norms(g))
        updater.update(step, pieces, factor)
        found.append(w.copy())
    return found


def data(size: int = 50, steps: int = 5) -> tuple[Array, list[Array]]:
    random = np.random.default_rng(5)
    return random.standard_normal(size), [random.standard_normal(size) for _ in range(steps)]


def test_every_rule_is_tested() -> None:
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 3e-6)])
def test_the_formulas_of_the_papers(name: str, dtype: str, tolerance: float) -> None:
    rule, reference = CASES[name]
    w, gradients = data()
    for found, expected in zip(
        trained(rule, w.astype(dtype), gradients), reference(w, gradients), strict=True
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", list(CASES))
@given(cuts=st.sets(st.integers(1, 49), max_size=5))
def test_cutting_the_vector_up_changes_no_bit(name: str, cuts: set[int]) -> None:
    rule, _ = CASES[name]
    w, gradients = data()
    whole = trained(rule, w.astype(np.float32), gradients)[-1]
    edges = [0, *sorted(cuts), 50]
    parts = [
        trained(rule, w[a:b].astype(np.float32), [g[a:b] for g in gradients])[-1]
        for a, b in pairwise(edges)
    ]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", list(CASES))
def test_new_arrays_get_what_old_ones_would(name: str) -> None:
    rule, _ = CASES[name]
    w, gradients = data(steps=1)
    inside = trained(rule, w, gradients)[0]
    updater = Updater(
        rule, Constant(lr=LR), weight_decay=0, clip_norm=None, decaying=[], dtype=w.dtype
    )
    slots = [np.zeros_like(w) for _ in rule.slots]
    new, new_slots = np.empty_like(w), [np.empty_like(w) for _ in rule.slots]
    before = w.copy()
    updater.update(0, updater.bind(0, 50, w, gradients[0].copy(), slots, new, new_slots))
    assert new.tobytes() == inside.tobytes()
    assert w.tobytes() == before.tobytes()
    assert not any(s.any() for s in slots)


def test_weight_decay_spares_what_does_not_decay() -> None:
    w, gradients = data(steps=1)
    decaying = [(10, 20), (30, 40)]
    found = trained(SGD(), w, gradients, weight_decay=0.1, decaying=decaying)[0]
    mask = np.zeros(50)
    for low, high in decaying:
        mask[low:high] = 1
    np.testing.assert_allclose(found, w - LR * (gradients[0] + 0.1 * mask * w), rtol=1e-14)


def test_adamw_decays_past_the_moments() -> None:
    w, gradients = data(steps=3)
    rule = CASES["adamw"][0]
    found = trained(rule, w, gradients, weight_decay=0.1)
    plain = w
    for step in range(3):
        # undo what the first steps' decay did to the start of the next: one step at a time
        moved = list(adam(np.zeros_like(w), gradients[: step + 1]))
        delta = moved[step] - (moved[step - 1] if step else 0)
        plain = plain * (1 - LR * 0.1) + delta
        np.testing.assert_allclose(found[step], plain, rtol=1e-12, atol=1e-14)
    coupled = trained(Adam(0.7, 0.9, 1e-3), w, gradients, weight_decay=0.1)
    assert not np.allclose(found[-1], coupled[-1])


def test_clipping_scales_by_the_norm_of_the_whole() -> None:
    w, gradients = data(size=70_000, steps=1)
    norm = math.sqrt(float(gradients[0] @ gradients[0]))
    found = trained(SGD(), w, gradients, clip_norm=3.0)[0]
    np.testing.assert_allclose(found, w - LR * gradients[0] * (3.0 / norm), rtol=1e-12)
    free = trained(SGD(), w, gradients, clip_norm=2 * norm)[0]
    assert free.tobytes() == trained(SGD(), w, gradients)[0].tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_gradient_is_not_clipped_away(bad: float) -> None:
    w, gradients = data(steps=1)
    gradients[0][7] = bad
    with np.errstate(all="ignore"):
        assert np.isnan(trained(SGD(), w, gradients, clip_norm=1.0)[0]).all()


def test_a_zero_gradient_can_be_clipped() -> None:
    w, _ = data()
    assert trained(SGD(), w, [np.zeros(50)], clip_norm=1.0)[0].tobytes() == w.tobytes()
