"""Every optimizer beside PyTorch's, in float64, with settings that are not the defaults."""

from typing import Any

import numpy as np
import pytest

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
from tests.optim.build import LR, trained

SIZE, STEPS = 37, 25


def gradients() -> list[Any]:
    random = np.random.default_rng(5)
    return [
        random.standard_normal(SIZE) * 10.0 ** random.integers(-3, 3, SIZE) for _ in range(STEPS)
    ]


def theirs(make: Any) -> list[Any]:
    """Return PyTorch's weights after each step."""
    torch = pytest.importorskip("torch")
    w = torch.linspace(-1, 1, SIZE, dtype=torch.float64, requires_grad=True)
    optimizer = make(torch.optim, [w])
    found = []
    for gradient in gradients():
        w.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        found.append(w.detach().numpy().copy())
    return found


CASES: dict[str, tuple[AnyRule, dict[str, Any], Any]] = {
    "sgd": (SGD(), {}, lambda o, w: o.SGD(w, lr=LR)),
    "momentum": (Momentum(momentum=0.7), {}, lambda o, w: o.SGD(w, lr=LR, momentum=0.7)),
    "nesterov": (
        Nesterov(momentum=0.7), {}, lambda o, w: o.SGD(w, lr=LR, momentum=0.7, nesterov=True)
    ),
    "adagrad": (AdaGrad(epsilon=1e-5), {}, lambda o, w: o.Adagrad(w, lr=LR, eps=1e-5)),
    "rmsprop": (
        RMSprop(decay=0.8, epsilon=1e-5), {}, lambda o, w: o.RMSprop(w, lr=LR, alpha=0.8, eps=1e-5)
    ),
    "adam": (
        Adam(beta1=0.8, beta2=0.95, epsilon=1e-5), {},
        lambda o, w: o.Adam(w, lr=LR, betas=(0.8, 0.95), eps=1e-5),
    ),
    "adam with weight decay": (
        Adam(), {"weight_decay": 0.1, "decaying": [(0, SIZE)]},
        lambda o, w: o.Adam(w, lr=LR, weight_decay=0.1),
    ),
    "adamw": (
        AdamW(), {"weight_decay": 0.1, "decaying": [(0, SIZE)]},
        lambda o, w: o.AdamW(w, lr=LR, weight_decay=0.1),
    ),
    "sgd with weight decay": (
        SGD(), {"weight_decay": 0.1, "decaying": [(0, SIZE)]},
        lambda o, w: o.SGD(w, lr=LR, weight_decay=0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_weights_after_every_step(name: str) -> None:
    rule, settings, make = CASES[name]
    ours = trained(rule, np.linspace(-1, 1, SIZE), gradients(), **settings)
    for step, (found, expected) in enumerate(zip(ours, theirs(make), strict=True)):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12, err_msg=f"{step}")


def test_no_optimizer_is_left_out() -> None:
    torch = pytest.importorskip("torch")
    there = {name.lower() for name in dir(torch.optim)}
    known = {type(rule) for rule, _, _ in CASES.values()}
    for name, kind in RULES.items():
        assert kind in known or kind.__name__.lower() not in there, f"{name} is one of torch's too"
