"""Inputs brought to the scale that a network was trained on, whatever dtype they come in."""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dptrain.data.scale import GREY, Scale, layout_of
from dptrain.data.spool import Rows, pieces_of

# What is done to numbers: nothing, or grey values become fractions of white, or the reverse.
Change = Literal["none", "divide", "multiply"]

_PICTURE = 64  # a sample of fewer numbers is hardly a picture
_BRIGHT = 128  # who was trained on grey values has seen such
_FAR = 10  # times the range that a network was trained on
_FAINT = 64  # a picture whose brightest pixel is so many times darker than white
_BELOW = 0.05  # of the range: what smoothing may add below black


class ScaleWarning(UserWarning):
    """Inputs seem to have another scale than those a network was trained on."""


def scale_of(x: Rows) -> Scale:
    """Return the scale of samples ``(n, *sample_shape)`` of numbers, of which there is one."""
    low, high, whole = np.inf, -np.inf, True
    for piece in (x[part] for part in pieces_of(x)):
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
        with np.errstate(invalid="ignore"):  # infinity is refused elsewhere
            whole = whole and (x.dtype.kind != "f" or bool((piece == np.floor(piece)).all()))
    return Scale(low, high, whole, x.dtype == np.uint8, _background(x))


def _background(x: Rows) -> float | None:
    """Return the mean of the outermost pixels, in all channels."""
    layout = layout_of(x.shape[1:])
    if layout is None or math.prod(x.shape[1:]) < _PICTURE:
        return None
    height, width, channels, first = layout
    shape = (channels, height, width) if first else (height, width, channels)
    total, count = 0.0, 0
    for part in pieces_of(x):
        pictures = x[part].reshape(-1, *shape)
        if not first:
            pictures = pictures.transpose(0, 3, 1, 2)
        for edge in (pictures[:, :, [0, -1], :], pictures[:, :, 1:-1, [0, -1]]):
            total += float(edge.sum(dtype=np.float64))
            count += edge.size
    return round(total / count, 6)


def change_for(given: Scale, trained: Scale | None, shape: tuple[int, ...]) -> tuple[Change, str]:
    """Return what makes inputs those that a network knows, and a doubt about it or ``""``.

    Args:
        given: the inputs.
        trained: those it was trained on; None of runs that do not tell.
        shape: of a sample.
    """
    if trained is None:
        return ("divide" if given.grey else "none"), ""
    picture = layout_of(shape) is not None and math.prod(shape) >= _PICTURE
    if trained.grey or (trained.within_one and trained.high > 0):
        return _to_fractions(given, trained, picture=picture)
    fractions = given.within_one and (not given.whole or (picture and given.high == 1))
    if trained.within_bytes and trained.high >= _BRIGHT and fractions:
        seen = _seen(given, trained)
        if picture:
            return "multiply", f"{seen}; they are taken as fractions of white, times 255"
        return "none", f"{seen}; bring them to the same scale"
    far = _far(given, trained, picture=picture)
    divided = Scale(given.low / GREY, given.high / GREY)
    if far and given.grey and not _far(divided, trained) and not _is_faint(divided, trained.high):
        return "divide", f"{_seen(given, trained)}; they are taken as grey values, divided by 255"
    return "none", far


def _to_fractions(given: Scale, trained: Scale, *, picture: bool) -> tuple[Change, str]:
    """Return the same for a network that has seen numbers from 0 to 1."""
    if picture and given.grey and given.high == 1 and trained.high >= _BRIGHT:
        seen = f"the network was trained on grey values up to {trained.high:g}, these are 0 to 1"
        return "none", f"{seen}; they are taken as black and white"
    if trained.grey and given.within_bytes and (given.grey or given.high > 1 or trained.high <= 1):
        brighter = given.high > _FAR * max(1, trained.high)
        return "divide", (
            f"the network was trained on grey values up to {trained.high:g}, these go up to "
            f"{given.high:g}; bring them to the same scale"
        ) * brighter
    if given.grey and given.high > 1:
        return "divide", ""
    bright = given.high > (1 if given.whole and trained.grey else GREY / 16)
    if given.low >= 0 and bright and given.high <= GREY and (picture or trained.grey):
        return "divide", f"{_seen(given, trained)}; they are taken as grey values, divided by 255"
    return "none", _far(given, trained, picture=picture)


def _far(given: Scale, trained: Scale, *, picture: bool = False) -> str:
    low, high = (0.0, 1.0) if trained.grey else (trained.low, trained.high)
    margin = (high - low) * (1 if trained.grey or trained.within_one else _FAR)
    doubted = given.low < low - margin or given.high > high + margin
    if picture and low >= 0:
        doubted |= given.low < -_BELOW * high or _is_faint(given, high)
    elif picture and trained.background is not None and trained.background < 0:
        doubted |= given.low >= 0
    return f"{_seen(given, trained)}; bring them to the same scale" if doubted else ""


def _is_faint(given: Scale, high: float) -> bool:
    return 0 < given.high < high / _FAINT


def are_apart(given: Scale, trained: Scale, shape: tuple[int, ...]) -> bool:
    """Return whether inputs of the same dtype seem to have another scale than those trained on."""
    return change_for(given, trained, shape) != ("divide" if given.grey else "none", "")


def _seen(given: Scale, trained: Scale) -> str:
    low, high = (0.0, 1.0) if trained.grey else (trained.low, trained.high)
    return (
        f"the network was trained on numbers from {low:g} to {high:g}, these are "
        f"{given.low:g} to {given.high:g}"
    )


def rescaled(x: NDArray[Any], change: Change, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return inputs in ``dtype``, changed; the same numbers whatever dtype they come in."""
    if change == "multiply":
        grey = x.astype(np.float64) * GREY
        nearest = np.rint(grey)
        # a fraction of white in float32 is a ten-thousandth of a grey value off, at most
        return np.where(np.abs(grey - nearest) < 1e-3, nearest, grey).astype(dtype)
    with np.errstate(over="ignore"):  # what is too large for float32 is reported by the caller
        values: NDArray[Any] = x.astype(dtype)
    if change == "divide":
        np.divide(values, values.dtype.type(GREY), out=values)
    return values
