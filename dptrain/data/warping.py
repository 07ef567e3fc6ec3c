"""Moving the content of images: shifts by whole pixels, rotations by interpolation.

What comes in from beyond the edges is 0. Everything is elementwise over the images, so an image has
the same bits whatever others it is moved with, and nothing is computed in a loop over images.
"""

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[Any]
Whole = NDArray[np.intp]

# Images are worked on in parts of about so many pixels, so that buffers stay small.
PART_PIXELS = 40_000

# Rotations go by steps of so many parts of the limit. The sines of NumPy may differ in their last
# bits with the place in an array; these come from a table.
TURN_STEPS = 512


def part_rows(sample_shape: tuple[int, ...]) -> int:
    """Return how many images of a shape make up a part."""
    return max(1, PART_PIXELS // math.prod(sample_shape))


class Shift:
    """Shifts images by up to ``limit`` pixels."""

    def __init__(self, sample_shape: tuple[int, ...], limit: int, dtype: np.dtype[Any]) -> None:
        """Make the buffers; ``sample_shape`` is ``(H, W)`` or ``(H, W, C)``."""
        self._limit = limit
        self._height, width = sample_shape[:2]
        self._channels = math.prod(sample_shape[2:])
        self._row = width * self._channels
        self.rows = part_rows(sample_shape)
        margin = (2 * limit, 2 * limit * self._channels)
        self._canvas = np.zeros((self.rows, self._height + margin[0], self._row + margin[1]), dtype)
        window = (self._height, self._row)
        self._windows = sliding_window_view(self._canvas, window, axis=(1, 2))
        self._images = np.arange(self.rows)

    def apply(self, x: Array, down: Whole, right: Whole) -> None:
        """Shift images in place.

        Args:
            x: ``(n, *sample_shape)``, C-contiguous, at most `rows` images.
            down: pixels, ``(n,)``, from ``-limit`` to ``limit``.
            right: likewise.
        """
        flat, limit, n = x.reshape(len(x), self._height, self._row), self._limit, len(x)
        left = limit * self._channels
        self._canvas[:n, limit : limit + self._height, left : left + self._row] = flat
        images = self._images[:n]
        flat[...] = self._windows[images, limit - down, (limit - right) * self._channels]


class Rotation:
    """Rotates images about their middle, and shifts them after that.

    Each pixel takes the value of the place it comes from, interpolated linearly between the four
    pixels around that place (bilinear interpolation). Without a turn all bits stay the same.
    """

    def __init__(self, sample_shape: tuple[int, ...], limit: float, dtype: np.dtype[Any]) -> None:
        """Make the buffers.

        Args:
            sample_shape: ``(H, W)`` or ``(H, W, C)``.
            limit: the largest angle, in degrees.
            dtype: of the images.
        """
        self._height, self._width = sample_shape[:2]
        channels = sample_shape[2:]
        self.rows = part_rows(sample_shape)
        angles = [math.radians(limit) * i / TURN_STEPS for i in range(-TURN_STEPS, TURN_STEPS + 1)]
        self._cos = np.array([math.cos(angle) for angle in angles], dtype)
        self._sin = np.array([math.sin(angle) for angle in angles], dtype)
        # A margin of one pixel before and two behind: coordinates are clipped to reach no farther.
        canvas = (self.rows, self._height + 3, self._width + 3, *channels)
        self._canvas = np.zeros(canvas, dtype)
        self._flat = self._canvas.reshape(-1, *(channels if channels != (1,) else ()))
        grid = (self.rows, self._height, self._width)
        self._x, self._y, self._left, self._top = (np.empty(grid, dtype) for _ in range(4))
        self._places = np.empty(grid, np.intp)
        self._offsets = np.arange(self.rows) * (canvas[1] * canvas[2])
        self._corners = [np.empty((*grid, *self._flat.shape[1:]), dtype) for _ in range(4)]
        self._columns = np.arange(self._width, dtype=dtype) - dtype.type((self._width - 1) / 2)
        self._lines = np.arange(self._height, dtype=dtype) - dtype.type((self._height - 1) / 2)

    def apply(self, x: Array, turns: Whole, down: Whole, right: Whole) -> None:
        """Rotate and shift images in place.

        Args:
            x: ``(n, *sample_shape)``, C-contiguous, at most `rows` images.
            turns: counter-clockwise, ``(n,)``, in parts of ``limit / TURN_STEPS``, from
                ``-TURN_STEPS`` to ``TURN_STEPS``.
            down: whole pixels, ``(n,)``.
            right: likewise.
        """
        n = len(x)
        self._canvas[:n, 1:-2, 1:-2] = x
        self._locate(n, turns, down, right)
        width = self._width + 3
        corners = [corner[:n] for corner in self._corners]
        for corner, offset in zip(corners, (0, 1, width, width + 1), strict=True):
            self._flat[offset:].take(self._places[:n], 0, corner, "clip")
        upper_left, upper_right, lower_left, lower_right = corners
        spread = (..., *[np.newaxis] * (corners[0].ndim - 3))
        across, along = self._x[:n][spread], self._y[:n][spread]
        _mix(upper_left, upper_right, across)
        _mix(lower_left, lower_right, across)
        _mix(upper_right, lower_right, along)
        np.copyto(x, lower_right.reshape(x.shape))

    def _locate(self, n: int, turns: Whole, down: Whole, right: Whole) -> None:
        """Find where on the canvas each pixel comes from: a place, and how far beyond it."""
        x, y, left, top = (each[:n] for each in (self._x, self._y, self._left, self._top))
        cos = self._cos[turns + TURN_STEPS, np.newaxis]
        sin = self._sin[turns + TURN_STEPS, np.newaxis]
        columns = self._columns - right[:, np.newaxis].astype(x.dtype)
        lines = self._lines - down[:, np.newaxis].astype(x.dtype)
        # the coordinates on the canvas, whose pixel (1, 1) is the image's (0, 0)
        middle = x.dtype.type((self._width + 1) / 2)
        np.subtract((cos * columns + middle)[:, np.newaxis], (sin * lines)[..., np.newaxis], out=x)
        middle = y.dtype.type((self._height + 1) / 2)
        np.add((sin * columns)[:, np.newaxis], (cos * lines + middle)[..., np.newaxis], out=y)
        np.clip(x, 0, self._width + 1, out=x)
        np.clip(y, 0, self._height + 1, out=y)
        np.floor(x, out=left)
        np.floor(y, out=top)
        np.subtract(x, left, out=x)
        np.subtract(y, top, out=y)
        np.multiply(top, self._width + 3, out=top)
        np.add(top, left, out=top)
        np.copyto(self._places[:n], top, casting="unsafe")  # exact up to 2**24 pixels
        places = self._places[:n].reshape(n, -1)
        np.add(places, self._offsets[:n, np.newaxis], out=places)


def _mix(one: Array, other: Array, share: Array) -> None:
    """Make ``other`` the mean of both, in which it has the given share."""
    np.subtract(other, one, out=other)
    np.multiply(other, share, out=other)
    np.add(other, one, out=other)
