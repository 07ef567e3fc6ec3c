"""The windows of convolutions and pooling, made of what a layer is told alone."""

from typing import NamedTuple

from dptrain.nn.convolution import Conv2D
from dptrain.nn.pooling import AvgPool2D, MaxPool2D

Pair = tuple[int, int]


class Windows(NamedTuple):
    """Windows over an image; pairs are (vertical, horizontal).

    Attributes:
        image: ``(H, W, C)``.
        size: of a window.
        stride: from one to the next.
        padding: zeros on every side.
        places: how many windows there are.
    """

    image: tuple[int, int, int]
    size: Pair
    stride: Pair
    padding: Pair
    places: Pair


def windows_of(layer: Conv2D | MaxPool2D | AvgPool2D, shape: tuple[int, ...]) -> Windows:
    """Return the windows over samples ``(H, W)`` or ``(H, W, C)``."""
    height, width, channels = (*shape, 1)[:3]
    size = _pair(layer.size)
    stride = _pair(layer.size if layer.stride is None else layer.stride)
    padding = _pair(layer.padding) if isinstance(layer, Conv2D) else (0, 0)
    tops = range(-padding[0], height + padding[0] - size[0] + 1, stride[0])
    lefts = range(-padding[1], width + padding[1] - size[1] + 1, stride[1])
    places = len(tops), len(lefts)
    return Windows((height, width, channels), size, stride, padding, places)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value
