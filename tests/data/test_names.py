"""The names that the package exports, imported when they are first used."""

import subprocess
import sys

import pytest

import dptrain.data


def test_the_exported_names() -> None:
    assert dptrain.data.__all__ == [
        "Dataset",
        "RawData",
        "Split",
        "epoch_order",
        "normalise_inputs",
        "open_dataset",
        "prepare",
        "prepare_arrays",
        "read_idx",
        "read_source",
    ]
    for name in dptrain.data.__all__:
        assert getattr(dptrain.data, name).__name__ == name


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prepear'"):
        dptrain.data.prepear  # noqa: B018


def test_opening_a_data_set_imports_no_reader() -> None:
    code = (
        "import sys; from dptrain.data import open_dataset, epoch_order;"
        "print([name for name in ('csv', 'gzip', 'dptrain.data.source') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
