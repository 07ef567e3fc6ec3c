"""The losses by name. Each family has a file of its own; `dptrain.nn.loss` says what a loss is."""

from dptrain.nn.binary_cross_entropy import BinaryCrossEntropy
from dptrain.nn.cross_entropy import SoftmaxCrossEntropy
from dptrain.nn.hinge import Hinge
from dptrain.nn.regression import Huber, MeanSquaredError, SumOfSquares

__all__ = [
    "LOSSES",
    "AnyLoss",
    "BinaryCrossEntropy",
    "Hinge",
    "Huber",
    "MeanSquaredError",
    "SoftmaxCrossEntropy",
    "SumOfSquares",
]

AnyLoss = SoftmaxCrossEntropy | BinaryCrossEntropy | SumOfSquares | MeanSquaredError | Huber | Hinge
LOSSES: dict[str, type[AnyLoss]] = {
    "softmax-cross-entropy": SoftmaxCrossEntropy,
    "binary-cross-entropy": BinaryCrossEntropy,
    "sum-of-squares": SumOfSquares,
    "mean-squared-error": MeanSquaredError,
    "huber": Huber,
    "hinge": Hinge,
}
