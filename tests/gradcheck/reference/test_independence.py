"""The reference takes nothing from what it judges but what a layer is told."""

import ast
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain.gradcheck.reference as reference
from dptrain.gradcheck.reference.layers import windows_of
from dptrain.nn.convolution import Conv2D
from dptrain.nn.pooling import AvgPool2D, MaxPool2D

FOLDER = Path(next(iter(reference.__path__)))
# what draws, cuts, augments and updates in a run
JUDGED = (
    "dptrain.arithmetic.randomness",
    "dptrain.data.augmentation",
    "dptrain.data.dataset",
    "dptrain.nn.windows",
    "dptrain.optim",
)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_nothing_that_is_judged_is_imported(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not str(node.module).startswith(JUDGED), node.module
        if isinstance(node, ast.Attribute):
            assert node.attr != "windows", f"line {node.lineno}"


def test_windows_are_those_of_the_layers() -> None:
    ways: Any = itertools.product(
        (1, 3, (2, 3)), (1, 2, (3, 1)), (0, 1, (2, 0)), ((7, 8), (6, 5, 2))
    )
    for size, stride, padding, shape in ways:
        for layer in (
            Conv2D(2, size, stride, padding),
            MaxPool2D(size, stride),
            AvgPool2D(size),
        ):
            found, wanted = windows_of(layer, shape), layer.windows(shape)
            assert found[:4] == (wanted.image, wanted.size, wanted.stride, wanted.padding)
            assert found.places == wanted.places
            assert np.prod(found.places) == wanted.count
