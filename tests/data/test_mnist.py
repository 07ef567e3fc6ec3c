"""The embedded MNIST: the original files, and what their preparation makes of them."""

import gzip
import hashlib
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from dptrain.data.dataset import open_dataset
from dptrain.data.idx_folder import find_idx_files, read_embedded_mnist
from dptrain.data.source import read_source
from dptrain.errors import DataError

FOLDER = Path(str(resources.files("dptrain.data"))) / "mnist"

# As published with the data; written out once more, independent of the package's own list.
UNPACKED = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@pytest.mark.parametrize("name", UNPACKED)
def test_the_embedded_files_are_the_original_ones(name: str) -> None:
    content = gzip.decompress((FOLDER / f"{name}.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == UNPACKED[name]
    assert UNPACKED[name] in (FOLDER / "NOTICE.md").read_text(encoding="utf-8")


def test_shapes_and_counts() -> None:
    data = read_source("mnist", None)
    assert data.x_train.shape == (60000, 28, 28)
    assert data.x_test is not None
    assert data.x_test.shape == (10000, 28, 28)
    # The counts of each digit in the training part, as published by many who use it.
    assert np.bincount(data.t_train).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert data.t_train[:5].tolist() == [5, 0, 4, 1, 9]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    for name in UNPACKED:
        shutil.copy(FOLDER / f"{name}.gz", tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=r"t10k-labels.*not the MNIST file.*install dptrain again"):
        read_embedded_mnist(find_idx_files(tmp_path))


def test_the_prepared_images_are_grey_values_from_0_to_1(mnist_folder: Path) -> None:
    dataset = open_dataset(mnist_folder, validation=0.1, test=0.0, seed=0)
    assert dataset.name == "mnist"
    assert (dataset.classes, dataset.class_names) == (10, tuple("0123456789"))
    assert (dataset.sample_shape, dataset.target_shape) == ((28, 28), ())
    assert dataset.dtype == np.float32
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [
        54000, 6000, 10000,
    ]  # fmt: skip
    raw = gzip.decompress((FOLDER / "t10k-images-idx3-ubyte.gz").read_bytes())
    expected = [np.float32(value) / np.float32(255) for value in raw[16 : 16 + 784]]
    x, _ = dataset.test.take(np.array([0]), np.float32)
    np.testing.assert_array_equal(x.ravel(), expected, strict=False)
    assert dataset.test.inputs.dtype == np.uint8
    assert dataset.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
