"""Pictures as people draw, scan and photograph them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dptrain.cli.pictures import Reader
from dptrain.cli.samples import input_files, read_samples
from dptrain.data.rescaling import scale_of
from dptrain.errors import DataError

DARK = scale_of(np.pad(np.full((5, 20, 20), 200, np.uint8), ((0, 0), (4, 4), (4, 4))))
LIGHT = scale_of(np.full((5, 28, 28), 250, np.uint8))
DIGIT = np.pad(np.arange(400).reshape(20, 20) * 255 // 399, 4).astype(np.uint8)


def stroke(path: Path, mode: str, back: object, ink: object) -> Path:
    """Draw an upright line."""
    picture = Image.new(mode, (280, 280), back)  # type: ignore[arg-type]
    ImageDraw.Draw(picture).line([(140, 40), (140, 240)], ink, 26)  # type: ignore[arg-type]
    picture.save(path)
    return path


def read(path: Path, *, invert: bool = False, light: bool = False) -> tuple[np.ndarray, str]:
    reader = Reader((28, 28), LIGHT if light else DARK, invert)
    pixels = reader.read(path)
    return pixels[0], "\n".join(reader.notes)


def test_drawings_are_laid_on_the_background_of_training(tmp_path: Path) -> None:
    right, notes = read(stroke(tmp_path / "right.png", "L", 0, 255))
    assert not notes
    white, notes = read(stroke(tmp_path / "white.png", "LA", (0, 0), (255, 255)))
    assert not notes
    np.testing.assert_array_equal(white, right)
    black, notes = read(stroke(tmp_path / "black.png", "RGBA", (0, 0, 0, 0), (0, 0, 0, 255)))
    assert "nothing is left of its drawing; light and dark of it are exchanged" in notes
    np.testing.assert_array_equal(black, right)
    paper, notes = read(tmp_path / "black.png", light=True)
    assert not notes
    assert abs(int(paper[0, 0]) - 250) <= 1
    assert paper[14, 14] == 0


def test_light_paper_is_pointed_out(tmp_path: Path) -> None:
    right, _ = read(stroke(tmp_path / "right.png", "L", 0, 255))
    paper = stroke(tmp_path / "paper.png", "RGB", "white", "black")
    _, notes = read(paper)
    assert "its border is light, that of the training images dark; give --invert" in notes
    inverted, notes = read(paper, invert=True)
    assert not notes
    np.testing.assert_array_equal(inverted, right)
    assert "border is dark" in read(tmp_path / "right.png", light=True)[1]


def test_pictures_stand_upright(tmp_path: Path) -> None:
    right, _ = read(stroke(tmp_path / "right.png", "L", 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(tmp_path / "right.png").rotate(90).save(tmp_path / "lying.png", exif=exif)
    found, _ = read(tmp_path / "lying.png")
    assert np.abs(found.astype(int) - right).max() < 9


def test_more_bits_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(DIGIT.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray((DIGIT / 255).astype(np.float32)).save(tmp_path / "fractions.tiff")
    Image.fromarray(DIGIT.astype(np.float32)).save(tmp_path / "floats.tiff")
    for each in tmp_path.iterdir():
        np.testing.assert_array_equal(read(each)[0], DIGIT)
    Image.fromarray(DIGIT.astype(np.float32) - 50).save(tmp_path / "below.tiff")
    with pytest.raises(DataError, match=r"numbers from -50 to 205; save it with 8 bits"):
        read(tmp_path / "below.tiff")


def test_what_is_lost_is_told(tmp_path: Path) -> None:
    Image.fromarray(DIGIT).resize((400, 200)).save(tmp_path / "wide.png")
    assert "its 400x200 pixels are stretched to 28x28" in read(tmp_path / "wide.png")[1]
    Image.new("L", (28, 28), 7).save(tmp_path / "empty.png")
    assert "nothing to see" in read(tmp_path / "empty.png")[1]


def test_colours_and_single_channels_are_taken(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    path = tmp_path / "colours.png"
    np.testing.assert_array_equal(Reader((8, 8, 3), None).read(path), colours[None])
    first = Reader((3, 8, 8), None).read(path)
    np.testing.assert_array_equal(first[0].transpose(1, 2, 0), colours)
    grey = Reader((64,), None).read(path)
    for shape in ((8, 8, 1), (1, 8, 8), (8, 8)):
        found = Reader(shape, None).read(path)
        assert found.shape == (1, *shape)
        np.testing.assert_array_equal(found.reshape(1, 64), grey)
    with pytest.raises(DataError, match=r"does not fit samples of shape \(192,\)"):
        Reader((192,), None).read(path)


def test_a_folder_stands_for_its_pictures(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        Image.fromarray(DIGIT).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert [each.name for each in input_files([tmp_path, Path("c.npy")])] == [
        "a.jpg",
        "b.png",
        "c.npy",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder without pictures"):
        input_files([tmp_path / "empty"])


def test_inputs_in_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", X_train=DIGIT[None], y_train=[1])
    reader = Reader((28, 28), None)
    np.testing.assert_array_equal(read_samples(tmp_path / "k.npz", reader), DIGIT[None])
    assert "its array 'X_train' is predicted from" in reader.notes[0]
    np.savez(tmp_path / "k.npz", a=DIGIT, b=DIGIT)
    with pytest.raises(DataError, match=r"which of \['a', 'b'\] are inputs"):
        read_samples(tmp_path / "k.npz", reader)
