"""The book's mnist.pkl: the same data as the IDX files that it is made of, and nothing is run."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.data.source import read_source
from dptrain.errors import DataError
from tests.data.test_idx import idx_bytes
from tests.sessions import run

RANDOM = np.random.default_rng(4)
NAMES = {
    "train_img": "train-images-idx3",
    "train_label": "train-labels-idx1",
    "test_img": "t10k-images-idx3",
    "test_label": "t10k-labels-idx1",
}


def write(folder: Path, protocol: int, **changes: Any) -> Path:
    """Write IDX files, and a pickle of what they hold, as NumPy reads it from their bytes."""
    found: dict[str, Any] = {}
    for name, file in NAMES.items():
        rows = 40 if name.startswith("train") else 12
        shape, most = ((rows, 4, 4), 256) if name.endswith("img") else ((rows,), 3)
        values = RANDOM.integers(0, most, shape, np.uint8)
        content = idx_bytes(values)
        (folder / f"{file}-ubyte").write_bytes(content)
        flat = np.frombuffer(content, np.uint8, offset=4 + 4 * values.ndim)
        found[name] = flat.reshape(-1, 16) if name.endswith("img") else flat
    arrays = {name: each for name, each in (found | changes).items() if each is not None}
    path = folder / "small.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol))
    return path


@pytest.mark.parametrize("protocol", [-1, 2])
def test_it_is_the_folder_of_idx_files(protocol: int, tmp_path: Path) -> None:
    path = write(tmp_path, protocol)
    found, files = read_source(str(path), None), read_source(str(tmp_path), None)
    for name in ("x_train", "t_train", "x_test", "t_test"):
        np.testing.assert_array_equal(getattr(found, name), getattr(files, name), strict=True)
    sources = {"pickle": path, "folder": tmp_path}
    digests = {
        run({"dataset": str(source), "model": "mlp:16-7-3"}, tmp_path / f"run-{name}").digest
        for name, source in sources.items()
    }
    assert len(digests) == 1


def test_other_sizes_and_no_test_part(tmp_path: Path) -> None:
    path = write(tmp_path, -1, train_img=np.ones((40, 7)), test_img=None, test_label=None)
    found = read_source(str(path), None)
    assert found.x_train.shape == (40, 7)
    assert found.x_test is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"test_label": None}, "holds train_img, train_label, test_img, but a data set is"),
        ({"W": np.ones(3)}, "holds train_img, .*, W, but a data set is train_img, train_label and"),
        (
            {"W1": np.ones((3, 2))},
            "holds .* W1: the weights of a network, .*`dptrain convert` makes a model",
        ),
        ({"test_label": [1, 2]}, "the pickle is refused at byte .* which no array needs"),
        ({"test_label": Path}, "the pickle is refused at byte .* pathlib"),
    ],
)
def test_other_pickles(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = write(tmp_path, 4, **changes)
    with pytest.raises(DataError, match=rf"small\.pkl: {problem}"):
        read_source(str(path), None)
