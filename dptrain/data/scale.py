"""What the numbers of inputs stand for: which range they have, and how pictures lie in samples."""

import math
from typing import NamedTuple

import msgspec

GREY = 255  # the white of uint8 pictures


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The inputs of a data set, as they were before they were brought to what is trained on.

    Attributes:
        low: the smallest number.
        high: the largest.
        whole: whether all are whole numbers.
        grey: whether they are uint8, which is divided by 255.
        background: the mean along the border of the samples, where those may be pictures.
    """

    low: float
    high: float
    whole: bool = False
    grey: bool = False
    background: float | None = None

    @property
    def within_bytes(self) -> bool:
        """Whether these may be grey values from 0 to 255."""
        return self.whole and self.low >= 0 and self.high <= GREY

    @property
    def within_one(self) -> bool:
        """Whether these may be fractions of white."""
        return self.low >= 0 and self.high <= 1

    @property
    def white(self) -> int:
        """What white is: 255 of grey values, otherwise 1."""
        return GREY if self.grey or self.high > 1 else 1


class ImageLayout(NamedTuple):
    """How a picture lies in a sample.

    Attributes:
        height: in pixels.
        width: in pixels.
        channels: 1 or 3.
        first: whether the channels are the first axis.
    """

    height: int
    width: int
    channels: int
    first: bool = False


def layout_of(shape: tuple[int, ...]) -> ImageLayout | None:
    """Return how pictures lie in samples of a shape; None where none do.

    Shapes are (H, W), (H, W, 1 or 3), (1 or 3, H, W), or flat with as many numbers as a square has.
    """
    if len(shape) == 2:
        return ImageLayout(*shape, 1)
    if len(shape) == 3 and shape[2] in (1, 3):
        return ImageLayout(*shape)
    if len(shape) == 3 and shape[0] in (1, 3):
        return ImageLayout(shape[1], shape[2], shape[0], first=True)
    side = math.isqrt(math.prod(shape))
    return ImageLayout(side, side, 1) if len(shape) == 1 and side**2 == shape[0] else None
