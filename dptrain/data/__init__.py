"""Data sets: read, checked, normalised once per machine, split, and visited in a fixed order.

The names are imported when they are first used: a worker opens a prepared data set and never
needs the readers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dptrain.data.dataset import Dataset, Split, epoch_order, open_dataset
    from dptrain.data.idx import read_idx
    from dptrain.data.inputs import normalise_inputs
    from dptrain.data.prepared import prepare, prepare_arrays
    from dptrain.data.raw import RawData
    from dptrain.data.source import read_source

__all__ = [
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

_HOMES = {
    "Dataset": "dataset",
    "RawData": "raw",
    "Split": "dataset",
    "epoch_order": "dataset",
    "normalise_inputs": "inputs",
    "open_dataset": "dataset",
    "prepare": "prepared",
    "prepare_arrays": "prepared",
    "read_idx": "idx",
    "read_source": "source",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"dptrain.data.{_HOMES[name]}"), name)
