"""Pictures as samples for a network: upright, with its background, size and channels."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.scale import GREY, ImageLayout, Scale, layout_of
from dptrain.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp")
SIXTEEN_BITS = 65535
MOST_PIXELS = 100_000_000  # unpacked in colours they take 400 MB
_FLAT = 16  # grey values between which there is hardly a drawing
_OTHER = 128  # grey values between the borders of pictures and of what was trained on
_STRETCHED = 1.25  # ratio of width to height that changes no more unseen


@dataclass(frozen=True)
class Reader:
    """Reads pictures.

    Attributes:
        shape: of a sample.
        scale: of the inputs that the network was trained on, if it is known.
        invert: whether light and dark are exchanged.
        notes: what was assumed and what is doubtful, a sentence each.
    """

    shape: tuple[int, ...]
    scale: Scale | None
    invert: bool = False
    notes: list[str] = field(default_factory=list)

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return a picture as one sample of grey values, ``(1, *shape)``.

        Raises:
            DataError: samples have no form that a picture has, or this one has no known range.
            OSError, ValueError: it cannot be read.
        """
        from PIL import ImageOps  # cost 30 ms, and only pictures need them

        layout = layout_of(self.shape)
        if layout is None:
            raise DataError(
                f"{path}: a picture does not fit samples of shape {self.shape}; they must be of "
                "shape (H, W), (H, W, 3), (3, H, W), or flat with as many numbers as a square has"
            )
        with _opened(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            picture = self._opaque(path, _eight_bits(path, upright), layout)
        self._check_form(path, picture, layout)
        pixels = np.asarray(picture.resize((layout.width, layout.height)), np.uint8)
        if self.invert:
            pixels = GREY - pixels
        self._check_light(path, pixels)
        if layout.first and layout.channels > 1:
            pixels = pixels.transpose(2, 0, 1)
        return pixels.reshape(1, *self.shape)

    @property
    def _background(self) -> int | None:
        """The grey value of the border of what was trained on."""
        scale = self.scale
        if scale is None or scale.background is None or scale.low < 0 or scale.high > GREY:
            return None
        return round(scale.background / scale.white * GREY)

    def _opaque(self, path: Path, picture: "Image", layout: ImageLayout) -> "Image":
        """Return the picture in grey or colours, laid on the background if it is transparent."""
        from PIL import Image, ImageChops

        mode = "L" if layout.channels == 1 else "RGB"
        if "A" not in picture.getbands() and "transparency" not in picture.info:
            return picture.convert(mode)
        picture = picture.convert("RGBA")
        ground = self._background or 0
        ground = GREY - ground if self.invert else ground
        laid = _on(picture, ground).convert(mode)
        if not _uniform(laid) or _uniform(picture.getchannel("A")):
            return laid
        self.notes.append(
            f"{path}: on the background of the training images nothing is left of its drawing; "
            "light and dark of it are exchanged"
        )
        contrary: Image.Image = ImageChops.invert(_on(picture, GREY - ground).convert(mode))
        return contrary

    def _check_form(self, path: Path, picture: "Image", layout: ImageLayout) -> None:
        given, wanted = picture.width / picture.height, layout.width / layout.height
        if not 1 / _STRETCHED <= given / wanted <= _STRETCHED:
            self.notes.append(
                f"{path}: its {picture.width}x{picture.height} pixels are stretched to "
                f"{layout.width}x{layout.height}; cut it to the same form first"
            )

    def _check_light(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        if int(pixels.max()) - int(pixels.min()) < _FLAT:
            self.notes.append(f"{path}: is of one colour; there is nothing to see on it")
            return
        ground = self._background
        border = np.concatenate([pixels[[0, -1]].ravel(), pixels[1:-1, [0, -1]].ravel()]).mean()
        if ground is None or abs(border - ground) < _OTHER:
            return
        light, other = ("light", "dark") if border > ground else ("dark", "light")
        remedy = "leave out --invert" if self.invert else "give --invert to exchange the two"
        self.notes.append(
            f"{path}: its border is {light}, that of the training images {other}; {remedy}"
        )


def _opened(path: Path) -> "Image":
    """Open a picture, of which no pixel is unpacked yet; refuse one of very many."""
    from PIL import Image

    with warnings.catch_warnings():  # the limit below is lower
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            found: Image.Image = Image.open(path)
        except Image.DecompressionBombError as error:
            raise DataError(f"{path}: has too many pixels: {error}") from None
    pixels = found.width * found.height
    if pixels > MOST_PIXELS:
        found.close()
        raise DataError(
            f"{path}: has {found.width:,} x {found.height:,} pixels, more than {MOST_PIXELS:,}; "
            "make it smaller"
        )
    return found


def _on(picture: "Image", grey: int) -> "Image":
    from PIL import Image

    ground = Image.new("RGBA", picture.size, (grey, grey, grey, GREY))
    return Image.alpha_composite(ground, picture).convert("RGB")


def _uniform(picture: "Image") -> bool:
    values = np.asarray(picture)
    return int(values.max()) - int(values.min()) < _FLAT


def _eight_bits(path: Path, picture: "Image") -> "Image":
    """Return pictures of more bits in 8, and all others as they are.

    Floats are fractions of white, or grey values from 0 to 255.
    """
    from PIL import Image

    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture
    values: NDArray[Any] = np.asarray(picture, np.float64)
    low, high = float(values.min()), float(values.max())
    bright = 1 if high <= 1 else GREY
    white = bright if picture.mode == "F" else SIXTEEN_BITS
    if not (low >= 0 and high <= white):
        raise DataError(
            f"{path}: its pixels are numbers from {low:g} to {high:g}; save it with 8 bits, or "
            "with floats from 0 to 1"
        )
    return Image.fromarray(np.rint(values * (GREY / white)).astype(np.uint8))
