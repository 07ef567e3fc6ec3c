"""The book's names, and parameters that are no dense network."""

import itertools
from typing import Any

import numpy as np
import pytest

from dptrain.errors import DataError, UsageError
from dptrain.nn.activations import ReLU, Sigmoid
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.dropout import Dropout
from dptrain.nn.initializers import Zeros
from dptrain.nn.layer import Layer, Operation, Parameter, Shape, Site
from dptrain.nn.network import AnyLayer, Network
from dptrain.weights.book import book_tensors, layer_sizes


def params(*sizes: int, **changes: Any) -> dict[str, Any]:
    """Return parameters of a dense network; None takes one out."""
    made: dict[str, Any] = {}
    for i, (inputs, units) in enumerate(itertools.pairwise(sizes), start=1):
        made |= {f"W{i}": np.ones((inputs, units)), f"b{i}": np.ones(units)}
    made |= changes
    return {name: array for name, array in made.items() if array is not None}


def test_names_number_the_layers_with_parameters() -> None:
    network = Network((4, 5), [Flatten(), Dense(7), Sigmoid(), Sigmoid(), Dense(3), Dense(2)])
    assert {each.name: each.own for each in book_tensors(network)} == {
        "W1": "dense1.W", "b1": "dense1.b", "W2": "dense2.W", "b2": "dense2.b",
        "W3": "dense3.W", "b3": "dense3.b",
    }  # fmt: skip


def test_sizes_in_any_order_of_names() -> None:
    assert layer_sizes(params(784, 50, 100, 10)) == [784, 50, 100, 10]
    assert layer_sizes(dict(sorted(params(*range(1, 13)).items()))) == list(range(1, 13))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"W2": None}, "its W and its b"),
        ({"b1": None}, "b1 is missing among W1, W2, b2"),
        ({"W3": np.ones((3, 2))}, "b3 is missing"),
        ({"b3": np.ones(2)}, "its W and its b"),
        ({"W1": np.ones((30, 1, 5, 5))}, r"\(30, 1, 5, 5\).*--model FILE.toml"),
        ({"W2": np.ones((8, 3))}, r"W2 has shape \(8, 3\), but the layer before it has 7 units"),
        ({"b2": np.ones(4)}, r"b2 has shape \(4,\), but W2 has shape \(7, 3\)"),
        ({"b2": np.ones((1, 3))}, r"b2 has shape \(1, 3\)"),
        ({"gamma1": np.ones(7)}, "'gamma1' is not a parameter of a dense network"),
        ({"W01": np.ones(7)}, "'W01' is not a parameter"),
    ],
)  # fmt: skip
def test_other_parameters_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        layer_sizes(params(20, 7, 3, **changes))


class Scale(Layer, frozen=True, tag="scale"):
    """A layer with a parameter that the book has no such name for."""

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:
        return (Parameter("g", input_shape, Zeros(), (1, 1), decays=False),)

    def bind(self, site: Site) -> Operation:
        raise NotImplementedError


def test_layers_that_the_book_has_no_names_for() -> None:
    network = Network(4, [Dense(3), Scale(), Dense(2)])  # type: ignore[list-item]
    with pytest.raises(
        UsageError, match="scale1 has parameters that the book's files have no name"
    ):
        book_tensors(network)


def test_a_factor_of_dropout_goes_where_it_changes_nothing_else() -> None:
    layers: list[AnyLayer] = [
        Dense(7),
        ReLU(),
        Dropout(0.25),
        Dense(6),
        Dropout(0.5),
        ReLU(),
        Dense(2),
        Dropout(),
    ]
    factors = {each.name: each.factor for each in book_tensors(Network(4, layers))}
    assert factors == {"W1": 1, "b1": 1, "W2": 0.75, "b2": 1, "W3": 0.25, "b3": 0.5}
    with pytest.raises(UsageError, match="sigmoid1 stands between a dropout layer and the weights"):
        book_tensors(Network(4, [Dense(7), Dropout(), Sigmoid(), Dense(2)]))
