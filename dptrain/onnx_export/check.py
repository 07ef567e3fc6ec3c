"""Comparing an exported model, as onnxruntime runs it, with the network itself."""

from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented  # noqa: A004

from dptrain.errors import DataError, ShapeError, UsageError
from dptrain.experiment.evaluation_job import evaluation_job
from dptrain.onnx_export.model import INPUT, OUTPUTS
from dptrain.trained import TrainedNetwork

ROWS = 1000
# Of the outputs, to the largest of them or 1: what summing in another order costs, and some more.
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


class OnnxComparison(NamedTuple):
    """How far the two are apart.

    Attributes:
        difference: the largest between two outputs, absolute.
        allowed: the largest that is put down to rounding.
        rows: how many samples were compared.
        data: what they were, in words.
    """

    difference: float
    allowed: float
    rows: int
    data: str

    @property
    def agrees(self) -> bool:
        """Whether the difference is rounding; not so where it is not a number."""
        return self.difference <= self.allowed

    def __str__(self) -> str:
        verdict = "as rounding allows" if self.agrees else "MORE than rounding: do not use it"
        return (
            f"onnxruntime differs by {self.difference:.2g} at most on {self.rows:,} {self.data}, "
            f"{verdict} ({self.allowed:.2g})"
        )


def compared(model: bytes, trained: TrainedNetwork) -> OnnxComparison:
    """Run a model on up to 1000 test rows of the network's data set and compare the outputs.

    Where the data set is gone, as arrays in memory are, or has changed its shape, random numbers
    take its place.
    """
    x, data = _samples(trained)
    expected = trained.computed(x)
    offsets = trained.experiment.input_offsets
    given = x if offsets is None else x + np.reshape(offsets, x.shape[1:])
    found = run_model(model, given)
    if trained.experiment.target_scale is not None:  # where rounding is known
        found = trained.experiment.target_scale.standardised(found)
    largest = max(1.0, float(np.abs(expected).max()))
    return OnnxComparison(
        difference=float(np.abs(found - expected).max()),
        allowed=TOLERANCES[trained.experiment.dtype] * largest,
        rows=len(x),
        data=data,
    )


def run_model(model: bytes, x: NDArray[Any], output: str = OUTPUTS) -> NDArray[Any]:
    """Return one output of a model on samples, as onnxruntime computes it on a CPU.

    Raises:
        UsageError: onnxruntime lacks an operator in this dtype, such as Conv in float64.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except NotImplemented as error:
        reason = str(error).rpartition(" : ")[2]
        raise UsageError(
            f"onnxruntime cannot run this model: {reason}; it lacks some operators in float64, so "
            "train with --dtype float32"
        ) from None
    return np.asarray(session.run([output], {INPUT: x})[0])


def _samples(trained: TrainedNetwork) -> tuple[NDArray[Any], str]:
    try:
        job = evaluation_job(trained.experiment, None)
    except (DataError, ShapeError):
        shape = (ROWS, *trained.network.input_shape)
        numbers = np.random.default_rng(0).standard_normal(shape)
        return numbers.astype(trained.parameters.dtype), "rows of random numbers"
    split, name = job.dataset.test, "test"
    if not len(split):
        split, name = job.dataset.train, "training"
    x, _ = split.take(np.arange(min(ROWS, len(split))), trained.parameters.dtype)
    return x, f"{name} rows of {job.dataset.name}"
