"""Updates of whole runs of steps, for the tests of rules and of the updater."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.optim.rules import AnyRule
from dptrain.optim.schedules import AnySchedule, Constant
from dptrain.optim.updater import Updater

Array = NDArray[Any]
LR = 0.05


def updater(
    rule: AnyRule,
    dtype: Any,
    *,
    schedule: AnySchedule | None = None,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    decaying: Sequence[tuple[int, int]] = (),
) -> Updater:
    """Return an updater that by default does nothing but apply the rule."""
    return Updater(
        rule,
        schedule or Constant(lr=LR),
        weight_decay=weight_decay,
        l1=l1,
        clip_norm=clip_norm,
        decaying=decaying,
        dtype=np.dtype(dtype),
    )


def trained(
    rule: AnyRule,
    w: Array,
    gradients: Sequence[Array],
    *,
    edges: Sequence[int] = (),
    **settings: Any,
) -> list[Array]:
    """Return the weights after each step, updated in place, in parts cut at ``edges``."""
    apply = updater(rule, w.dtype, **settings)
    w = w.copy()
    g = np.empty_like(w)
    slots = [np.zeros_like(w) for _ in rule.slots]
    cuts = [0, *edges, w.size]
    parts = [apply.bind(low, high, w, g, slots, w, slots) for low, high in pairwise(cuts)]
    found = []
    for step, gradient in enumerate(gradients):
        g[...] = gradient
        factor = apply.clip_factor(apply.squared_norms(g)) if apply.clips else 1.0
        for pieces in parts:
            apply.update(step, pieces, factor)
        found.append(w.copy())
    return found


def random_steps(size: int = 50, steps: int = 5) -> tuple[Array, list[Array]]:
    """Return weights and gradients, some of them zero and some tiny or large."""
    random = np.random.default_rng(5)
    gradients = [random.standard_normal(size) for _ in range(steps)]
    for gradient in gradients:
        gradient[::7] *= 1e-3
        gradient[1::7] *= 100
    for gradient in gradients[:2]:
        gradient[:5] = 0
    return random.standard_normal(size), gradients
