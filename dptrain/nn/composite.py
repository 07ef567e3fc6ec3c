"""Layers that contain layers, and the list of all layers."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.calls import Call, call
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.dropout import Dropout
from dptrain.nn.gelu import GELU
from dptrain.nn.layer import Blocks, Layer, Operation, Parameter, Shape, Site
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.normalise import Normalise
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU, Softplus
from dptrain.nn.row import (
    Placed,
    backward_calls,
    bind_row,
    elements,
    parameters_of,
    place,
    shape_after,
)
from dptrain.nn.silu import SiLU


class Chain(Layer, frozen=True, tag="chain"):
    """A sequence of layers as one layer, to be named, repeated, or used inside another layer."""

    layers: "Sequence[AnyLayer]"

    def __post_init__(self) -> None:
        """Take any sequence."""
        _take_layers(self, "layers", needed=True)

    def held(self) -> "Sequence[AnyLayer]":
        """Return the layers."""
        return self.layers

    def bind(self, site: Site) -> Operation:
        """Never called: a network replaces the chain by its layers."""
        raise NotImplementedError


class Residual(Layer, frozen=True, tag="residual"):
    """``y = f(x) + g(x)``: ``layers`` make f, ``shortcut`` makes g, by default ``g(x) = x``.

    He et al. 2016, "Deep residual learning for image recognition", equations 1 and 2.
    """

    layers: "Sequence[AnyLayer]"
    shortcut: "Sequence[AnyLayer]" = ()

    def __post_init__(self) -> None:
        """Take any sequences."""
        _take_layers(self, "layers", needed=True)
        _take_layers(self, "shortcut", needed=False)

    def _rows(self, input_shape: Shape) -> tuple[list[Placed], list[Placed]]:
        return place(self.layers, input_shape), place(self.shortcut, input_shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape, in which both branches must agree."""
        ends = [shape_after(row, input_shape) for row in self._rows(input_shape)]
        if ends[0] != ends[1]:
            raise ShapeError(
                f"the layers of a residual block end in shape {ends[0]}, its shortcut in "
                f"{ends[1]}; give it a shortcut that ends in {ends[0]}, such as a Dense or a "
                "1x1 Conv2D"
            )
        return ends[0]

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:
        """Return those of the layers, then those of the shortcut."""
        main, shortcut = self._rows(input_shape)
        named = (p._replace(name=f"shortcut.{p.name}") for p in parameters_of(shortcut))
        return (*parameters_of(main), *named)

    def tables(self, input_shape: Shape) -> tuple[int, ...]:
        """Return those of the layers, then those of the shortcut."""
        rows = self._rows(input_shape)
        return tuple(n for row in rows for each in row for n in each.layer.tables(each.input_shape))

    def bind(self, site: Site) -> Operation:
        """Return both branches bound to the same input."""
        return ResidualOperation(site, *self._rows(site.input_shape))


class ResidualOperation(Operation):
    """Two sequences of layers with the same input, and the sum of their outputs."""

    def __init__(self, site: Site, main: list[Placed], shortcut: list[Placed]) -> None:
        self.site = site
        parameters = parameters_of(main)
        count, size = len(parameters), elements(parameters)
        part = _part(site, slice(None, count), slice(None, size), 0)
        self.main, main_end = bind_row(main, part)
        part = _part(site, slice(count, None), slice(size, None), 1)
        self.shortcut, shortcut_end = bind_row(shortcut, part)
        f, g = main_end.inputs, shortcut_end.inputs
        self.outputs = f if main_end.overwrites else site.like(f)
        self.forward_calls = [
            *(each for bound in (*self.main, *self.shortcut) for each in bound.forward_calls),
            *(call(np.add, *each) for each in zip(f, g, self.outputs, strict=True)),
        ]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """``dx`` is the sum of what comes back on both ways."""
        kept = self.site.like(gradients)  # the first way may use up what it is given
        calls: list[Call] = [call(np.copyto, *each) for each in zip(kept, gradients, strict=True)]
        main, through_main = backward_calls(self.main, gradients)
        shortcut, through_shortcut = backward_calls(self.shortcut, kept)
        calls += [*main, *shortcut]
        if not self.site.passes_back:
            return calls, []
        both = zip(through_main, through_shortcut, strict=True)
        calls += [call(np.add, f, g, f) for f, g in both]
        return calls, through_main


def _part(site: Site, own: slice, span: slice, way: int) -> Site:
    """Return where one of two ways begins: it may not overwrite the input of both."""
    return replace(
        site,
        weights=site.weights[own],
        gradients=site.gradients[own],
        frozen=site.frozen[own],
        span=site.span[span],
        span_gradients=[each[:, span] for each in site.span_gradients],
        overwrites=False,
        place=(*site.place, way),
    )


def _take_layers(layer: Layer, field: str, *, needed: bool) -> None:
    """Make a tuple of a field, which a user may have given as a list."""
    layers = getattr(layer, field)
    if isinstance(layers, Layer) or (needed and not layers):
        raise UsageError(f"{field} of a {layer.kind} must be a list of layers, with at least one")
    for each in layers:
        if not isinstance(each, Layer):
            raise UsageError(f"{each!r} is not a layer; give objects such as Dense(10)")
    msgspec.structs.force_setattr(layer, field, tuple(layers))


AnyLayer = (
    Dense
    | Conv2D
    | MaxPool2D
    | AvgPool2D
    | Flatten
    | Sigmoid
    | ReLU
    | Tanh
    | Identity
    | LeakyReLU
    | Softplus
    | GELU
    | SiLU
    | BatchNorm
    | LayerNorm
    | Normalise
    | Dropout
    | Chain
    | Residual
)
