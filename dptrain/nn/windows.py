"""Windows sliding over images: their shapes, which elements they read, and the way back.

A window has ``KH * KW`` elements, its offsets counted row by row. Copying whole pixels (all
features of one place, neighbours in memory) by index with `take` is what NumPy does fastest here:
adding or comparing strided slices of images costs 20 to 30 ns for each pixel, a copy about 4 ns.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.calls import Call, call
from dptrain.nn.layer import Array, Shape
from dptrain.nn.workspace import Workspace

# Without limits in the type: msgspec 0.22 reads wild memory where a union of int and tuple has any.
Extent = int | tuple[int, int]
Indices = NDArray[np.intp]


def pair(name: str, value: Any, least: int) -> tuple[int, int]:
    """Return ``(vertical, horizontal)`` of a tuple, or of an int that stands for both.

    Raises:
        UsageError: it is neither, or less than ``least``.
    """
    found = value if isinstance(value, tuple) else (value, value)
    if len(found) != 2 or any(type(n) is not int or n < least for n in found):
        raise UsageError(
            f"{name}={value!r} must be a whole number of at least {least}, or a tuple of two: "
            "(vertical, horizontal)"
        )
    return found[0], found[1]


@dataclass(frozen=True)
class Windows:
    """Windows over images of one shape; all pairs are ``(vertical, horizontal)``.

    Attributes:
        image: ``(H, W, C)``.
        size: of a window, ``(KH, KW)``.
        stride: from one window to the next.
        padding: zeros on either side of the image.
    """

    image: tuple[int, int, int]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def places(self) -> tuple[int, int]:
        """How many windows there are, ``(OH, OW)``: ``(H + 2p - KH) // s + 1``, likewise ``OW``."""
        ends = [
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(self.image, self.size, self.stride, self.padding, strict=False)
        ]
        return ends[0], ends[1]

    @property
    def count(self) -> int:
        """How many windows an image has."""
        return math.prod(self.places)

    @property
    def pixels(self) -> int:
        """How many places an image has."""
        return self.image[0] * self.image[1]

    @property
    def offsets(self) -> int:
        """How many places a window has."""
        return math.prod(self.size)

    @property
    def elements(self) -> int:
        """How many numbers a window has, over all channels."""
        return self.offsets * self.image[2]

    def reads(self) -> Indices:
        """Return ``(KH * KW, OH * OW)``: the pixel under each offset of each window, -1 outside.

        Pixels are counted row by row in the image without its padding.
        """
        (height, width, _), (high, wide) = self.image, self.places
        i, j, y, x = np.ogrid[: self.size[0], : self.size[1], :high, :wide]
        row = i + self.stride[0] * y - self.padding[0]
        column = j + self.stride[1] * x - self.padding[1]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        pixels = np.where(inside, row * width + column, -1)
        return pixels.reshape(self.offsets, high * wide)


def windows(image: Shape, size: Extent, stride: Extent, padding: Extent = 0) -> Windows:
    """Return the windows over samples of a shape; ``(H, W)`` is taken as one channel.

    Raises:
        ShapeError: the samples are not images, or too small for a single window.
    """
    if len(image) not in (2, 3):
        raise ShapeError(
            f"takes images of shape (H, W) or (H, W, C), not samples of shape {image}; put it "
            "before any Flatten or Dense layer, and give it images"
        )
    found = Windows(
        (image[0], image[1], image[2] if len(image) == 3 else 1),
        pair("size", size, 1),
        pair("stride", stride, 1),
        pair("padding", padding, 0),
    )
    if min(found.places) < 1:
        raise ShapeError(
            f"size={found.size} does not fit into images of {image[0]}x{image[1]} with "
            f"padding={found.padding}; choose a smaller size or a larger padding"
            + "; images are (H, W, C), so move the axis of channels behind the others where it is "
            "the first" * (len(image) == 3 and image[0] in (1, 3))
        )
    return found


class Fold:
    """Adds up, for every pixel, the values of the window elements that read it.

    Values stand in arrays ``(n, values + 1, C)``, whose last entry is always zero: it stands for
    all that is missing where a pixel is read by fewer windows than others.
    """

    def __init__(self, pixels: Indices, count: int, values: int | None = None) -> None:
        """Find which values belong to each of ``count`` pixels.

        Args:
            pixels: ``(elements,)``, the pixel that each element reads, or -1.
            count: of pixels.
            values: their number; one for each element unless given. If there are fewer, they are
                used in turn: the value of element ``e`` is ``e % values``.
        """
        self.values = len(pixels) if values is None else values
        order = np.argsort(pixels, kind="stable")
        order = order[np.searchsorted(pixels[order], 0) :]
        read = pixels[order]
        turn = np.arange(len(read)) - np.searchsorted(read, read)
        self.tables = np.full((turn.max(initial=0) + 1, count), self.values, np.intp)
        self.tables[turn, read] = order % self.values

    def values_for(self, samples: int, channels: int, dtype: Any, workspace: Workspace) -> Array:
        """Return an array ``(samples, values + 1, channels)``, to be filled but for its zeros."""
        found = workspace.empty((samples, self.values + 1, channels), dtype)
        found[:, -1] = 0
        return found

    def calls(self, values: Array, pixels: Array, scratch: Array) -> list[Call]:
        """Return the calls that write the sums, in the order of the values, into ``pixels``.

        All arrays are C-contiguous, ``pixels`` and ``scratch`` of shape ``(n, count, C)``.
        """
        first, *others = self.tables
        found: list[Call] = [call(values.take, first, 1, pixels, "clip")]
        for table in others:
            found.append(call(values.take, table, 1, scratch, "clip"))
            found.append(call(np.add, pixels, scratch, pixels))
        return found
