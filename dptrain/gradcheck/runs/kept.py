"""What a run has left on disk, read without the code that wrote it.

The format of safetensors: 8 bytes that tell, little-endian, how long the header is; the header,
JSON, with dtype, shape and place of every tensor; their bytes.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dptrain.experiment.files import parse_toml
from dptrain.experiment.job import Job
from dptrain.gradcheck.runs.lapses import WEIGHTS, Array

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_SLOT = "optimizer/"


class Kept(NamedTuple):
    """A checkpoint.

    Attributes:
        tensors: as they stand in the file, the optimizer's state under ``optimizer/``.
        about: what the metadata say: ``"step"``, ``"digest"``, ``"progress"`` and others.
    """

    tensors: dict[str, Array]
    about: dict[str, Any]

    @property
    def experiment(self) -> dict[str, Any]:
        """The experiment that it records."""
        return parse_toml(self.about["experiment"], "a checkpoint")["experiment"]

    def arrays(self, job: Job) -> dict[str, Array]:
        """Return the flat arrays of a state as of `lapses`; NaN stands for what is not there."""
        weights = np.full(job.network.size, np.nan)
        for tensor in job.network.all_tensors():
            values = self.tensors.get(tensor.name)
            if values is not None and values.shape == tensor.shape:
                weights[tensor.start : tensor.stop] = values.reshape(-1)
        found = {WEIGHTS: weights}
        for name in job.updater.rule.slots:
            slot = self.tensors.get(_SLOT + name)
            found[name] = np.full(job.network.size, np.nan)
            if slot is not None and slot.shape == weights.shape:
                found[name][:] = slot
        return found


def read_kept(file: Path) -> Kept:
    """Read a checkpoint."""
    data = file.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    about = json.loads(header.pop("__metadata__")["dptrain"])
    tensors = {}
    for name, each in header.items():
        low, high = each["data_offsets"]
        values = np.frombuffer(data[begin + low : begin + high], _DTYPES[each["dtype"]])
        tensors[name] = values.reshape(each["shape"])
    return Kept(tensors, about)


def read_records(file: Path) -> list[dict[str, Any]]:
    """Read a run's metrics: a line of JSON for each record."""
    return [json.loads(line) for line in file.read_text().splitlines()]
