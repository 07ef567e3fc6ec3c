"""Softmax, sigmoid, and losses of plain arrays in the definitions of the study notes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dptrain.errors import ShapeError

GUARD = 1e-7  # keeps log away from 0; the notes' and the book's value


def softmax(x: ArrayLike) -> NDArray[np.floating]:
    """Return the softmax over the last axis, shifted by each row's own maximum."""
    values = np.asarray(x)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(x: ArrayLike) -> NDArray[np.floating]:
    """Return ``1 / (1 + exp(-x))`` of each element; nothing overflows."""
    values = np.asarray(x)
    powers = np.exp(-np.abs(values))
    return np.asarray(np.maximum(powers, values >= 0) / (1 + powers))


def cross_entropy(y: ArrayLike, t: ArrayLike) -> float:
    """Return ``-Σ t log(y + 1e-7)``, averaged over the batch.

    Args:
        y: probabilities, one row ``(k,)`` or a batch ``(n, k)``.
        t: a one-hot row or rows of the same shape, or class numbers ``()`` or ``(n,)``.

    Raises:
        ShapeError: there are no rows, or the two do not fit.
    """
    predicted, wanted = _rows(y, t)
    return float(-np.sum(wanted * np.log(predicted + GUARD)) / len(predicted))


def sum_of_squares(y: ArrayLike, t: ArrayLike) -> float:
    """Return ``½ Σ (y - t)²``, averaged over the batch; arguments as in `cross_entropy`."""
    predicted, wanted = _rows(y, t)
    return float(0.5 * np.sum((predicted - wanted) ** 2) / len(predicted))


def numerical_gradient(
    f: Callable[[NDArray[np.float64]], float], x: ArrayLike, h: float = 1e-4
) -> NDArray[np.float64]:
    """Return the gradient of ``f`` at ``x`` by central differences, ``(f(x+h) - f(x-h)) / 2h``.

    Args:
        f: takes an array of the shape of ``x``, which it must leave as it is.
        x: a number or an array, taken as float64.
        h: how far each element is moved.
    """
    moved = np.array(x, np.float64)
    found = np.empty_like(moved)
    for place in np.ndindex(moved.shape):
        value = moved[place]
        moved[place] = value + h
        above = f(moved)
        moved[place] = value - h
        found[place] = (above - f(moved)) / (2 * h)
        moved[place] = value
    return found


def _rows(y: ArrayLike, t: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    predicted = np.atleast_2d(np.asarray(y))
    wanted = np.asarray(t)
    if predicted.ndim != 2 or not predicted.size:
        raise ShapeError(
            f"predictions of shape {np.shape(y)} are neither one row nor a batch of rows"
        )
    if wanted.shape == np.shape(y):
        return predicted, np.atleast_2d(wanted)
    labels = np.atleast_1d(wanted)
    classes = predicted.shape[-1]
    if labels.shape != predicted.shape[:1] or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"targets of shape {wanted.shape} do not fit predictions of shape {np.shape(y)}; give "
            "one-hot rows of the same shape or one class number a row"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ShapeError(f"class numbers must be 0 to {classes - 1}, not {labels.tolist()}")
    return predicted, np.eye(classes)[labels]
