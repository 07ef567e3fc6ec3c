"""Every loss: its definition, and how PyTorch computes it. Other tests take them from here.

Definitions are of every row, for moderate numbers: ``y`` are outputs ``(n, k)``, perhaps complex,
``t`` labels ``(n,)`` or values ``(n, k)``.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.nn.losses import (
    AnyLoss,
    BinaryCrossEntropy,
    Hinge,
    Huber,
    LogCosh,
    MeanSquaredError,
    SoftmaxCrossEntropy,
    SumOfSquares,
)

Array = NDArray[Any]
WEIGHTS = (0.5, 2.0, 0.25)


def _goals(y: Array, t: Array) -> Array:
    """Return what the outputs should be: labels stand for one-hot rows."""
    return t if t.ndim == 2 else np.eye(y.shape[1])[t]


def cross_entropies(
    y: Array, labels: Array, smoothing: float = 0.0, weights: Sequence[float] | None = None
) -> Array:
    """Return ``-Σ_c w_c q_c log softmax(y)_c``; ``q`` is ``(1 - a) onehot + a / K``."""
    logs = y - np.log(np.exp(y).sum(axis=1, keepdims=True))
    wanted = (1 - smoothing) * np.eye(y.shape[1])[labels] + smoothing / y.shape[1]
    return np.asarray(
        -(logs * wanted * (1.0 if weights is None else np.array(weights))).sum(axis=1)
    )


def binary_cross_entropies(y: Array, t: Array, positive_weight: float = 1.0) -> Array:
    """Return the mean of ``-(p t log σ(y) + (1 - t) log(1 - σ(y)))``; of one output, t is it."""
    goal = t[:, np.newaxis] if y.shape[1] == t.ndim == 1 else _goals(y, t)
    chance = 1 / (1 + np.exp(-y))
    logs = positive_weight * goal * np.log(chance) + (1 - goal) * np.log(1 - chance)
    return np.asarray(-logs.mean(axis=1))


def squared_errors(y: Array, t: Array) -> Array:
    """Return ``½ Σ (y - t)²``."""
    return np.asarray(((y - _goals(y, t)) ** 2).sum(axis=1) / 2)


def mean_squared_errors(y: Array, t: Array) -> Array:
    """Return the mean of ``(y - t)²``."""
    return np.asarray(((y - _goals(y, t)) ** 2).mean(axis=1))


def hubers(y: Array, t: Array, delta: float = 1.0) -> Array:
    """Return the mean of ``½ e²`` or ``δ (|e| - ½ δ)``."""
    error = y - _goals(y, t)
    size = np.where(error.real < 0, -error, error)
    straight = delta * (size - delta / 2)
    return np.asarray(np.where(size.real <= delta, error**2 / 2, straight).mean(axis=1))


def log_coshes(y: Array, t: Array) -> Array:
    """Return the mean of ``log(cosh(y - t))``."""
    return np.asarray(np.log(np.cosh(y - _goals(y, t))).mean(axis=1))


def hinges(y: Array, labels: Array) -> Array:
    """Return ``Σ_{j≠t} max(0, 1 + y_j - y_t)``, or of one output ``max(0, 1 - s y)``."""
    if y.shape[1] == 1:
        margins = 1 - (2 * labels[:, np.newaxis] - 1) * y
    else:
        margins = 1 + y - np.take_along_axis(y, labels[:, np.newaxis], axis=1)
        margins[np.arange(len(y)), labels] = 0
    return np.asarray((margins * (margins.real > 0)).sum(axis=1))


class Case(NamedTuple):
    """A loss on outputs of some units: what a row costs, and how PyTorch computes the sum."""

    loss: AnyLoss
    labelled: bool
    units: int
    rows: Callable[[Array, Array], Array]
    torch: Callable[[Any, Any, Any], Any]


def one_hot(torch: Any, y: Any, t: Any) -> Any:
    return torch.eye(y.shape[1], dtype=y.dtype)[t] if t.ndim == 1 else t


def torch_entropy(smoothing: float, weights: Any) -> Callable[[Any, Any, Any], Any]:
    def found(torch: Any, y: Any, t: Any) -> Any:
        each = None if weights is None else torch.tensor(weights, dtype=y.dtype)
        kind = torch.nn.CrossEntropyLoss(each, label_smoothing=smoothing, reduction="sum")
        return kind(y, t)

    return found


def torch_binary(weight: float) -> Callable[[Any, Any, Any], Any]:
    def found(torch: Any, y: Any, t: Any) -> Any:
        goal = t[:, None].to(y.dtype) if y.shape[1] == t.ndim == 1 else one_hot(torch, y, t)
        kind = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight, dtype=y.dtype))
        return kind(y, goal) * len(y)

    return found


def torch_log_cosh(torch: Any, error: Any) -> Any:
    return (torch.logaddexp(error, -error) - np.log(2)).mean(dim=1).sum()


CASES = {
    "cross-entropy": Case(
        SoftmaxCrossEntropy(), True, 3, cross_entropies, torch_entropy(0, None)
    ),
    "smoothed": Case(
        SoftmaxCrossEntropy(label_smoothing=0.3), True, 3,
        lambda y, t: cross_entropies(y, t, 0.3), torch_entropy(0.3, None),
    ),
    "weighted": Case(
        SoftmaxCrossEntropy(class_weights=WEIGHTS), True, 3,
        lambda y, t: cross_entropies(y, t, 0, WEIGHTS), torch_entropy(0, WEIGHTS),
    ),
    "smoothed and weighted": Case(
        SoftmaxCrossEntropy(0.1, WEIGHTS), True, 3,
        lambda y, t: cross_entropies(y, t, 0.1, WEIGHTS), torch_entropy(0.1, WEIGHTS),
    ),
    "binary": Case(
        BinaryCrossEntropy(), True, 1, binary_cross_entropies, torch_binary(1)
    ),
    "binary, weighted": Case(
        BinaryCrossEntropy(positive_weight=4.0), True, 1,
        lambda y, t: binary_cross_entropies(y, t, 4.0), torch_binary(4),
    ),
    "binary of classes": Case(
        BinaryCrossEntropy(), True, 3, binary_cross_entropies, torch_binary(1)
    ),
    "binary of values": Case(
        BinaryCrossEntropy(positive_weight=0.3), False, 3,
        lambda y, t: binary_cross_entropies(y, t, 0.3), torch_binary(0.3),
    ),
    "sum of squares": Case(
        SumOfSquares(), False, 3, squared_errors,
        lambda torch, y, t: torch.nn.MSELoss(reduction="sum")(y, t) / 2,
    ),
    "sum of squares of classes": Case(
        SumOfSquares(), True, 3, squared_errors,
        lambda torch, y, t: torch.nn.MSELoss(reduction="sum")(y, one_hot(torch, y, t)) / 2,
    ),
    "mean squares": Case(
        MeanSquaredError(), False, 3, mean_squared_errors,
        lambda torch, y, t: torch.nn.MSELoss()(y, t) * len(y),
    ),
    "mean squares of one": Case(
        MeanSquaredError(), False, 1, mean_squared_errors,
        lambda torch, y, t: torch.nn.MSELoss()(y, t) * len(y),
    ),
    "mean squares of classes": Case(
        MeanSquaredError(), True, 3, mean_squared_errors,
        lambda torch, y, t: torch.nn.MSELoss()(y, one_hot(torch, y, t)) * len(y),
    ),
    "huber": Case(
        Huber(), False, 3, hubers, lambda torch, y, t: torch.nn.HuberLoss()(y, t) * len(y)
    ),
    "wide huber of classes": Case(
        Huber(huber_delta=2.5), True, 3, lambda y, t: hubers(y, t, 2.5),
        lambda torch, y, t: torch.nn.HuberLoss(delta=2.5)(y, one_hot(torch, y, t)) * len(y),
    ),
    "log-cosh": Case(
        LogCosh(), False, 3, log_coshes, lambda torch, y, t: torch_log_cosh(torch, y - t)
    ),
    "log-cosh of classes": Case(
        LogCosh(), True, 3, log_coshes,
        lambda torch, y, t: torch_log_cosh(torch, y - one_hot(torch, y, t)),
    ),
    "hinge": Case(
        Hinge(), True, 3, hinges,
        lambda torch, y, t: torch.nn.MultiMarginLoss()(y, t) * y.shape[1] * len(y),
    ),
    "hinge of two": Case(
        Hinge(), True, 1, hinges,
        lambda torch, y, t: torch.relu(1 - (2 * t[:, None] - 1) * y).sum(),
    ),
}  # fmt: skip
