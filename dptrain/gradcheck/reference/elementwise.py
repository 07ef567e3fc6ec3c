"""Activation functions of the reference: value and slope of each element, with bounds.

Values are computed by formulas that hold for complex numbers as well, and branch by the real part
alone. The error of a value is at most that of the input times the steepest slope, that of a slope
at most that of the input times the largest second derivative; both maxima stand beside each
function. Rounding adds a few units of the terms that the usual formulas are made of.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.bounded import FUNCTION
from dptrain.gradcheck.reference.tape import Node
from dptrain.nn.activations import Identity, Sigmoid, Tanh
from dptrain.nn.gelu import GELU
from dptrain.nn.layer import Layer
from dptrain.nn.rectifiers import Softplus
from dptrain.nn.silu import SiLU

Array = NDArray[Any]

ROUNDINGS = 2 * FUNCTION


def sigmoid(x: Node) -> Node:
    """``1 / (1 + exp(-x))``; slopes up to 1/4, second derivatives up to 0.0963."""
    y = logistic(x.value)
    return _smooth(x, y, y * logistic(-x.value), 0.25, 0.0963, slope_terms=y.real)


def tanh(x: Node) -> Node:
    """Slopes up to 1, second derivatives up to 0.770; the slope is ``1 - y²``."""
    y = np.tanh(x.value)
    return _smooth(x, y, 1 - y * y, 1.0, 0.77, slope_terms=1.0)


def softplus(x: Node) -> Node:
    """``log(1 + exp(x))``; slopes up to 1, second derivatives up to 1/4."""
    v = x.value
    positive = v.real > 0
    u = np.exp(np.where(positive, -v, v))
    y = np.where(positive, v, 0) + np.log1p(u)
    slope = logistic(v)
    return _smooth(x, y, slope, 1.0, 0.25, slope_terms=slope.real)


def gelu(x: Node) -> Node:
    """``x Φ(x)``; slopes up to 1.129, second derivatives up to 0.798."""
    v = x.value
    density = np.exp(-(v.real**2) / 2) / math.sqrt(2 * math.pi)
    share = np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in v.real.flat])
    share = share.reshape(v.shape)
    if np.iscomplexobj(v):  # Φ' is the density, by definition; the imaginary part is tiny
        share = share + 1j * v.imag * density
    y = v * share
    terms = np.abs(share.real) + np.abs(v.real) * density
    terms = terms * (1 + v.real**2 / ROUNDINGS)  # where x² is rounded, its power is off by x² u
    return _smooth(x, y, share + v * density, 1.129, 0.798, slope_terms=terms, terms=np.abs(v.real))


def tanh_gelu(x: Node) -> Node:
    """``½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))``; slopes up to 1.129, curvature below 0.82."""
    v = x.value
    factor, cubic = math.sqrt(2 / math.pi), 0.044715
    t = np.tanh(factor * (v + cubic * v**3))
    slope = 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * factor * (1 + 3 * cubic * v * v)
    size = np.minimum(np.abs(v.real), 10.0)  # beyond, the bell has vanished
    terms = 1 + size * (1 + size * size) * (1 - np.abs(t.real) ** 2 + 1e-3)
    y = 0.5 * v * (1 + t)
    return _smooth(x, y, slope, 1.129, 0.82, slope_terms=terms, terms=np.abs(v.real))


def silu(x: Node) -> Node:
    """``x / (1 + exp(-x))``; slopes up to 1.1, second derivatives up to 1/2."""
    v = x.value
    share, rest = logistic(v), logistic(-v)
    slope = share * (1 + v * rest)
    terms = share.real * (1 + np.abs(v.real) * rest.real)
    return _smooth(x, v * share, slope, 1.1, 0.5, slope_terms=terms, terms=np.abs(v.real))


def log_cosh(x: Node) -> Node:
    """``|x| + log(1 + exp(-2 |x|)) - log 2``; slopes up to 1, second derivatives up to 1."""
    v = x.value
    size = np.where(v.real > 0, v, -v)
    y = size + np.log1p(np.exp(-2 * size)) - math.log(2)
    return _smooth(x, y, np.tanh(v), 1.0, 1.0, slope_terms=1.0, terms=size.real + math.log(2))


def leaky_relu(x: Node, negative_slope: float) -> tuple[Node, Array]:
    """``x`` where ``x > 0``, otherwise ``a x``; returns which elements are positive as well."""
    v, error = x.value, x.bounded.error
    positive = v.real > 0
    slope = np.where(positive, 1.0, negative_slope)
    value_error = slope_error = None
    if error is not None:
        value_error = np.maximum(slope, 0) * error
        unsure = np.abs(v) <= error  # on which side of the kink is anybody's guess
        value_error = np.where(unsure, error, value_error)
        if negative_slope not in (0.0, 1.0):
            value_error = value_error + x.bounded.unit * np.abs(v)
        slope_error = np.where(unsure & (error > 0), 1.0 - negative_slope, 0.0)
    found = x.function(x.bounded.like(v * slope, value_error), x.bounded.like(slope, slope_error))
    return found, positive


# The activations that are smooth everywhere; those with kinks stand with the other layers.
SMOOTH: Mapping[type[Layer], Callable[[Any, Node], Node]] = {
    Identity: lambda _, x: x,
    Sigmoid: lambda _, x: sigmoid(x),
    Tanh: lambda _, x: tanh(x),
    Softplus: lambda _, x: softplus(x),
    GELU: lambda layer, x: gelu(x) if layer.approximate == "none" else tanh_gelu(x),
    SiLU: lambda _, x: silu(x),
}


def logistic(v: Array) -> Array:
    """Return ``1 / (1 + exp(-v))`` without overflow."""
    positive = v.real > 0
    u = np.exp(np.where(positive, -v, v))
    return np.asarray(np.where(positive, 1, u) / (1 + u))


def _smooth(
    x: Node,
    value: Array,
    slope: Array,
    steepest: float,
    most_curved: float,
    *,
    slope_terms: Array | float,
    terms: Array | float | None = None,
) -> Node:
    error, unit = x.bounded.error, x.bounded.unit
    if error is None:
        return x.function(x.bounded.like(value, None), x.bounded.like(slope, None))
    size = np.abs(value) if terms is None else terms
    value_error = steepest * error + ROUNDINGS * unit * size
    slope_error = most_curved * error + ROUNDINGS * unit * np.broadcast_to(slope_terms, slope.shape)
    return x.function(x.bounded.like(value, value_error), x.bounded.like(slope, slope_error))
