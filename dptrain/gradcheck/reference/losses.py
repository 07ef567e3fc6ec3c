"""The losses of the reference: the sum over a shard's rows, divided by the rows of all shards."""

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.elementwise import leaky_relu, log_cosh, softplus
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import Node
from dptrain.nn.binary_cross_entropy import BinaryCrossEntropy
from dptrain.nn.cross_entropy import SoftmaxCrossEntropy
from dptrain.nn.hinge import Hinge
from dptrain.nn.loss import Loss
from dptrain.nn.regression import Huber, LogCosh, MeanSquaredError, SumOfSquares

Array = NDArray[Any]


@singledispatch
def row_losses(loss: Loss, y: Node, t: Array, setting: Setting) -> Node:
    """Return the losses ``(rows,)`` of outputs ``(rows, units)``."""
    raise NotImplementedError(loss.kind)


@row_losses.register
def _(loss: SoftmaxCrossEntropy, y: Node, t: Array, setting: Setting) -> Node:  # noqa: ARG001
    classes = y.shape[-1]
    weights = np.array(loss.class_weights or [1.0] * classes)
    wanted = np.full(y.shape, loss.label_smoothing / classes)
    wanted[np.arange(len(t)), t] += 1 - loss.label_smoothing
    wanted *= weights
    z = y - y.constant(y.value.real.max(axis=-1, keepdims=True))
    log_total = z.exp().sum(-1, keepdims=True).log()
    return (y.constant(wanted) * (log_total - z)).sum(-1)


@row_losses.register
def _(loss: BinaryCrossEntropy, y: Node, t: Array, setting: Setting) -> Node:  # noqa: ARG001
    wanted = _values(y, t)
    zero = y.constant(np.zeros(()))
    misses = y.constant(loss.positive_weight * wanted) * softplus(zero - y)
    false_alarms = y.constant(1 - wanted) * softplus(y)
    return (misses + false_alarms).sum(-1) / y.constant(float(y.shape[-1]))


@row_losses.register
def _(loss: SumOfSquares, y: Node, t: Array, setting: Setting) -> Node:  # noqa: ARG001
    error = y - y.constant(_values(y, t))
    return (error * error).sum(-1) * y.constant(0.5)


@row_losses.register
def _(loss: MeanSquaredError, y: Node, t: Array, setting: Setting) -> Node:  # noqa: ARG001
    error = y - y.constant(_values(y, t))
    return (error * error).sum(-1) / y.constant(float(y.shape[-1]))


@row_losses.register
def _(loss: Huber, y: Node, t: Array, setting: Setting) -> Node:
    delta = loss.huber_delta
    error = y - y.constant(_values(y, t))
    within = (np.abs(error.value.real) <= delta).astype(float)
    setting.branched(within)
    clipped_sign = np.sign(error.value.real) * delta * (1 - within)
    clipped = error * y.constant(within) + y.constant(clipped_sign)
    each = clipped * (error - clipped * y.constant(0.5))
    return each.sum(-1) / y.constant(float(y.shape[-1]))


@row_losses.register
def _(loss: LogCosh, y: Node, t: Array, setting: Setting) -> Node:  # noqa: ARG001
    each = log_cosh(y - y.constant(_values(y, t)))
    return each.sum(-1) / y.constant(float(y.shape[-1]))


@row_losses.register
def _(loss: Hinge, y: Node, t: Array, setting: Setting) -> Node:  # noqa: ARG001
    one = y.constant(1.0)
    if y.shape[-1] == 1:
        margins = one - y.constant((2.0 * t - 1)[:, np.newaxis]) * y
        found, within = leaky_relu(margins, 0.0)
    else:
        others = np.ones(y.shape)
        others[np.arange(len(t)), t] = 0
        margins = one + y - y.at(t).reshape(len(t), 1)
        found, within = leaky_relu(margins, 0.0)
        found = found * y.constant(others)
    setting.branched(within)
    return found.sum(-1)


def _values(y: Node, t: Array) -> Array:
    """Return targets as numbers in the shape of the outputs; labels become one-hot rows."""
    if t.ndim > 1:
        return np.asarray(t, float)
    if y.shape[-1] == 1:
        return np.asarray(t, float)[:, np.newaxis]
    found = np.zeros(y.shape)
    found[np.arange(len(t)), t] = 1
    return found
