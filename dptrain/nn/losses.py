"""The losses by name. Each family has a file of its own; `dptrain.nn.loss` says what a loss is."""

from typing import get_args

from dptrain.nn.binary_cross_entropy import BinaryCrossEntropy
from dptrain.nn.cross_entropy import SoftmaxCrossEntropy
from dptrain.nn.hinge import Hinge
from dptrain.nn.regression import Huber, LogCosh, MeanSquaredError, SumOfSquares

__all__ = [
    "LOSSES",
    "AnyLoss",
    "BinaryCrossEntropy",
    "Hinge",
    "Huber",
    "LogCosh",
    "MeanSquaredError",
    "SoftmaxCrossEntropy",
    "SumOfSquares",
]

AnyLoss = (
    SoftmaxCrossEntropy
    | BinaryCrossEntropy
    | SumOfSquares
    | MeanSquaredError
    | Huber
    | LogCosh
    | Hinge
)
LOSSES: dict[str, type[AnyLoss]] = {str(k.__struct_config__.tag): k for k in get_args(AnyLoss)}
