"""Losses of the differences between outputs and targets. Class labels stand for one-hot rows."""

import numpy as np

from dptrain.nn.layer import Array, Blocks
from dptrain.nn.loss import BoundLoss, Loss
from dptrain.nn.workspace import Workspace


class OfDifferences(Loss, frozen=True):
    """A loss of the differences."""

    any_scale = True


class SumOfSquares(OfDifferences, frozen=True, tag="sum-of-squares"):
    """``½ Σ (y - t)²`` over the outputs of a row."""

    def squared_error(self, loss: float, outputs: int) -> float | None:
        """Return the mean squared error of an output."""
        return 2 * loss / outputs

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        return BoundSquares(outputs, targets, workspace or Workspace(), mean=False)


class MeanSquaredError(OfDifferences, frozen=True, tag="mean-squared-error"):
    """``(y - t)²``, the mean over the outputs of a row, as PyTorch's ``MSELoss``."""

    def squared_error(self, loss: float, outputs: int) -> float | None:  # noqa: ARG002
        """Return the loss: that is the mean squared error."""
        return loss

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        return BoundSquares(outputs, targets, workspace or Workspace(), mean=True)


class Huber(OfDifferences, frozen=True, tag="huber"):
    """``½ e²`` where ``|e| ≤ δ``, otherwise ``δ (|e| - ½ δ)``, with ``e = y - t`` (Huber 1964).

    The mean over the outputs of a row. ``huber_delta`` is ``δ``. As PyTorch's ``HuberLoss``.
    """

    huber_delta: float = 1.0

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        return BoundHuber(outputs, targets, workspace or Workspace(), self.huber_delta)


class LogCosh(OfDifferences, frozen=True, tag="log-cosh"):
    """``log(cosh(y - t))``, the mean over the outputs of a row; the slope is ``tanh(y - t)``.

    Near 0 half the square, far out ``|y - t| - log 2``, and smooth in between.
    """

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        return BoundLogCosh(outputs, targets, workspace or Workspace())


class BoundDifferences(BoundLoss):
    """Keeps the differences where the gradients will stand."""

    def __init__(self, outputs: Blocks, targets: Blocks, workspace: Workspace) -> None:
        super().__init__(outputs, targets, workspace)
        self.products = [workspace.empty(y.shape, y.dtype) for y in outputs]

    def difference(self, i: int) -> Array:
        """Return ``y - t`` of a block."""
        found, y = self.gradients[i], self.outputs[i]
        if self.labels[i]:
            np.copyto(found, y)
            self.flat_gradients[i][self.label_cells(i)] -= 1
        else:
            np.subtract(y, self.targets[i], out=found)
        return found


class BoundSquares(BoundDifferences):
    """The sum of squares divided by 2, or by the number of outputs."""

    def __init__(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace, *, mean: bool
    ) -> None:
        super().__init__(outputs, targets, workspace)
        self.divisors = [y.shape[-1] if mean else 2 for y in outputs]

    def losses(self) -> list[float]:
        """``Σ (y - t)² / divisor`` of every row."""
        for i, divisor in enumerate(self.divisors):
            error, row = self.difference(i), self.rows[i]
            np.multiply(error, error, out=self.products[i])
            np.add.reduce(self.products[i], axis=-1, out=row)
            np.divide(row, divisor, out=row)
        return self.summed()

    def backward(self, rows: int) -> Blocks:
        """``2 (y - t) / divisor / rows``."""
        for gradient, divisor in zip(self.gradients, self.divisors, strict=True):
            np.divide(gradient, rows * divisor / 2, out=gradient)
        return self.gradients


class BoundHuber(BoundDifferences):
    """With ``c`` for ``e`` clipped at ``±δ``, the loss is ``c (e - ½ c)``, and its slope ``c``."""

    def __init__(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace, delta: float
    ) -> None:
        super().__init__(outputs, targets, workspace)
        self.delta = delta
        self.clipped = [workspace.empty(y.shape, y.dtype) for y in outputs]

    def losses(self) -> list[float]:
        """``Σ c (e - ½ c)`` of every row, divided by its outputs."""
        for i, clipped in enumerate(self.clipped):
            error, product, row = self.difference(i), self.products[i], self.rows[i]
            np.minimum(error, self.delta, out=clipped)
            np.maximum(clipped, -self.delta, out=clipped)
            np.multiply(clipped, 0.5, out=product)
            np.subtract(error, product, out=product)
            np.multiply(clipped, product, out=product)
            np.add.reduce(product, axis=-1, out=row)
            np.divide(row, error.shape[-1], out=row)
        return self.summed()

    def backward(self, rows: int) -> Blocks:
        """``c / rows``, divided by the outputs of a row."""
        for gradient, clipped in zip(self.gradients, self.clipped, strict=True):
            np.divide(clipped, rows * gradient.shape[-1], out=gradient)
        return self.gradients


class BoundLogCosh(BoundDifferences):
    """With ``a = |y - t|`` the loss is ``a + log1p(expm1(-2a) / 2)``, which does not overflow.

    Nor does much cancel where ``a`` is small, as it would in ``a + log1p(exp(-2a)) - log 2``.
    """

    def __init__(self, outputs: Blocks, targets: Blocks, workspace: Workspace) -> None:
        super().__init__(outputs, targets, workspace)
        self.sizes = [workspace.empty(y.shape, y.dtype) for y in outputs]

    def losses(self) -> list[float]:
        """The sum over the outputs of every row, divided by their number."""
        for i, size in enumerate(self.sizes):
            error, product, row = self.difference(i), self.products[i], self.rows[i]
            np.abs(error, out=size)
            np.multiply(size, -2, out=product)
            np.expm1(product, out=product)
            np.multiply(product, 0.5, out=product)
            np.log1p(product, out=product)
            np.add(product, size, out=product)
            np.add.reduce(product, axis=-1, out=row)
            np.divide(row, error.shape[-1], out=row)
        return self.summed()

    def backward(self, rows: int) -> Blocks:
        """``tanh(y - t) / rows``, divided by the outputs of a row."""
        for gradient in self.gradients:
            np.tanh(gradient, out=gradient)
            np.divide(gradient, rows * gradient.shape[-1], out=gradient)
        return self.gradients
