"""Small data sets: vectors of several lengths and images, for each kind of targets."""

from functools import cache

import numpy as np

from tests.gradcheck.own.layers import Array

ROWS = 70
CLASSES = 3
# Shapes of a sample; "sparse" images are 0 for the most part, as scanned digits are.
INPUTS: dict[str, tuple[int, ...]] = {
    "tiny": (2,), "small": (5,), "middle": (30,), "wide": (200,),
    "image": (2, 4, 5), "sparse": (1, 5, 5),
}  # fmt: skip
OUTPUTS = {"classes": CLASSES, "binary": 1, "numbers": 2}


@cache
def rows(inputs: str, targets: str) -> tuple[Array, Array]:
    """Return inputs ``(70, *shape)`` and class numbers ``(70,)``, or numbers ``(70, outputs)``."""
    random = np.random.default_rng(11)
    shape = (ROWS, *INPUTS[inputs])
    x = random.standard_normal(shape)
    if inputs == "sparse":
        x = np.where(random.random(shape) < 0.25, random.integers(0, 256, shape) / 255, 0.0)
    if targets == "classes":
        return x, np.arange(ROWS) % CLASSES
    if targets == "binary":
        return x, (np.arange(ROWS) % 2)[:, None] * 1.0
    return x, random.standard_normal((ROWS, OUTPUTS[targets]))
