"""What docs/definitions.md says of other definitions, where it can be computed."""

import re
from pathlib import Path

import numpy as np
import pytest

from dptrain.nn.batchnorm import BatchNorm
from dptrain.optim.links import Arrays, UpdateMoment
from dptrain.optim.rules import RULES
from tests.commands import dptrain

PAGE = (Path(__file__).parents[1] / "docs" / "definitions.md").read_text(encoding="utf-8")


def line(start: str) -> str:
    (found,) = [each for each in PAGE.splitlines() if each.startswith(f"| {start} |")]
    return found.split(" | ")[1]


def stepped(name: str, gradients: np.ndarray, epsilons: list[float]) -> np.ndarray:
    """Return the weights after a rule's steps, each with an epsilon of its own."""
    w = np.zeros(gradients.shape[1])
    slots = [np.zeros_like(w) for _ in RULES[name]().slots]
    for step, (g, epsilon) in enumerate(zip(gradients, epsilons, strict=True)):
        rule = RULES[name](epsilon=epsilon)  # type: ignore[call-arg]
        rule.update(
            Arrays(w, g.copy(), slots, w, slots, np.empty_like(w)), UpdateMoment(step, 0.01)
        )
    return w


def test_the_books_adam_has_a_larger_epsilon_in_the_first_steps() -> None:
    random = np.random.default_rng(1)
    gradients = random.standard_normal((8, 50)) * 10.0 ** random.integers(-8, 1, 50)
    w, m, v = np.zeros((3, 50))
    for t, g in enumerate(gradients, start=1):  # as the book writes it
        m += 0.1 * (g - m)
        v += 0.001 * (g**2 - v)
        w -= 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
    beside = [1e-7 / np.sqrt(1 - 0.999**t) for t in range(1, 9)]
    np.testing.assert_allclose(stepped("adam", gradients, beside), w, rtol=1e-12)
    ours = stepped("adam", gradients, [1e-8] * 8)
    assert np.abs(ours / w - 1).max() > 0.1


@pytest.mark.parametrize(
    ("name", "start"), [("adam", "Adam, AdamW"), ("adagrad", "AdaGrad"), ("rmsprop", "RMSprop")]
)
def test_epsilons_stand_on_the_page(name: str, start: str) -> None:
    (told,) = re.findall(r"ε = (\S+)", line(start))
    assert float(told) == RULES[name]().epsilon  # type: ignore[union-attr]


def test_defaults_stand_on_the_page_and_in_the_help() -> None:
    norm = BatchNorm()
    assert line("`BatchNorm`, momentum").startswith(f"{norm.momentum}:")
    assert float(line("`BatchNorm`, ε beside the variance")) == norm.epsilon
    text = " ".join(dptrain("train", "--help", env={"COLUMNS": "400", "PATH": ""}).stdout.split())
    rates: dict[float, list[str]] = {}
    for name, rule in RULES.items():
        rates.setdefault(rule.default_lr, []).append(name)
    del rates[0.001]  # that of the others
    wanted = ""
    for rate, names in rates.items():
        several = f"{', '.join(names[:-1])} and " if names[1:] else ""
        wanted += f"{np.format_float_positional(rate)} for {several}{names[-1]}, "
    wanted += "0.001 for the others"
    assert line("learning rates unless given") == wanted
    assert wanted in text
    for told in ("1e-7 for adagrad and rmsprop", "1e-8 for adam and adamw"):
        assert told in text
