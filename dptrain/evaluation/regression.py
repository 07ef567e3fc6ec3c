"""How close predicted numbers come."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from dptrain.errors import ShapeError


@dataclass(frozen=True)
class Regression:
    """The predictions for some rows; where a row has several targets, over all of them.

    Attributes:
        r2: the coefficient of determination ``1 - Σ (t - y)² / Σ (t - mean(t))²``, the means those
            of the targets of these rows: 1 is perfect, 0 no better than always the mean, and less
            is worse. Where targets were standardised for training, several of them are weighed in
            these units. None where the targets do not vary, since it is not defined there.
        rmse: the root of the mean squared error, in the unit of the targets.
        mae: the mean absolute error, likewise.
    """

    r2: float | None
    rmse: float
    mae: float

    def plain(self) -> dict[str, float | None]:
        """Return everything as plain data."""
        return asdict(self)


def regression(
    targets: ArrayLike, predictions: ArrayLike, units: Sequence[float] | None = None
) -> Regression:
    """Return how close predictions come, computed in float64.

    Args:
        targets: ``(n,)`` or ``(n, k)``, n at least 1.
        predictions: likewise.
        units: in which R² weighs the k targets of a row; their own, unless given.

    Raises:
        ShapeError: targets and predictions do not fit each other, or there are none.
    """
    t, y = (np.asarray(each, np.float64) for each in (targets, predictions))
    t, y = (each[:, np.newaxis] if each.ndim == 1 else each for each in (t, y))
    if t.shape != y.shape or t.ndim != 2 or not t.size:
        raise ShapeError(
            f"targets of shape {t.shape} and predictions of shape {y.shape} cannot be compared; "
            "give as many of both, and at least one row"
        )
    error, weights = t - y, np.array(units or 1.0)
    return Regression(
        r2=determination(float(np.mean(np.square(error / weights))), variance(t / weights)),
        rmse=float(np.mean(np.square(error))) ** 0.5,
        mae=float(np.mean(np.abs(error))),
    )


def variance(targets: ArrayLike) -> float:
    """Return the variance of targets ``(n, k)`` about each column's mean, over all of them.

    Exactly 0 where no column varies.
    """
    t = np.asarray(targets, np.float64)
    if (t == t[0]).all():  # the distances from a rounded mean would not be 0
        return 0.0
    return float(np.mean(np.square(t - t.mean(axis=0))))


def determination(mse: float, variance: float) -> float | None:
    """Return ``1 - mse / variance``, the coefficient of determination; None without variance."""
    return 1 - mse / variance if variance else None
