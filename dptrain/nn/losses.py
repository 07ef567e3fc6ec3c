"""Losses: what is averaged over the global minibatch, and its gradient.

A loss bound to the outputs and targets of one pass yields, for every shard, the *sum* of its rows'
losses, and gradients already divided by the number of rows of the *global* minibatch. So no mean
of means is ever formed, and uneven and empty shards are exact.
"""

from abc import ABC, abstractmethod

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dptrain.errors import ShapeError
from dptrain.nn.calls import Call, call, run
from dptrain.nn.layer import Array, Blocks, Shape
from dptrain.nn.workspace import Workspace


class BoundLoss(ABC):
    """A loss bound to the buffers of one pass.

    Attributes:
        outputs: the network's outputs, blocks of shape ``(shards, rows, units)``.
        targets: class labels ``(shards, rows)`` int64, or values ``(shards, rows, units)``.
        gradients: of the outputs, the same shapes as the outputs.
    """

    def __init__(self, outputs: Blocks, targets: Blocks, workspace: Workspace) -> None:
        self.outputs = outputs
        self.targets = targets
        empty = workspace.empty
        self.gradients = [empty(y.shape, y.dtype) for y in outputs]
        self.flat_gradients = [g.reshape(-1) for g in self.gradients]
        self.rows = [empty(y.shape[:2], y.dtype) for y in outputs]
        self.labels = [t.ndim == 2 for t in targets]
        self.cells = [empty(y.shape[:2], np.intp) for y in outputs]
        self.first_cells = [_first_cells(y) for y in outputs]

    @abstractmethod
    def losses(self) -> list[float]:
        """Return for each shard the sum of its rows' losses, accumulated in float64."""

    @abstractmethod
    def backward(self, rows: int) -> Blocks:
        """Return the gradients of the outputs, divided by ``rows``; call `losses` before."""

    def correct(self) -> list[int]:
        """Return for each shard how many rows have their largest output at their label."""
        found: list[int] = []
        for y, t in zip(self.outputs, self.targets, strict=True):
            found += np.count_nonzero(np.argmax(y, axis=-1) == t, axis=-1).tolist()
        return found

    def label_cells(self, block: int) -> NDArray[np.intp]:
        """Return the flat positions ``(shards, rows)`` of the labels' outputs in a block."""
        cells = self.cells[block]
        np.add(self.first_cells[block], self.targets[block], out=cells)
        return cells

    def summed(self) -> list[float]:
        """Return the sums of ``rows`` for each shard, in float64."""
        found: list[float] = []
        for each in self.rows:
            found += np.add.reduce(each, axis=-1, dtype=np.float64).tolist()
        return found


def _first_cells(outputs: Array) -> NDArray[np.intp]:
    shards, rows, units = outputs.shape
    return np.arange(0, shards * rows * units, units).reshape(shards, rows)


class Loss(Struct, frozen=True, tag_field="loss", forbid_unknown_fields=True):
    """The description of a loss."""

    def check(self, output_shape: Shape, classes: int, target_shape: Shape) -> None:
        """Raise `ShapeError` where the network's output does not fit the data's targets."""
        wanted = (classes,) if classes else target_shape
        if output_shape != wanted:
            what = f"{classes} classes" if classes else f"targets of shape {target_shape}"
            raise ShapeError(
                f"the network's output has shape {output_shape}, but the data set has {what}; "
                f"end the network with {wanted[0] if wanted else 1} units"
            )

    def squared_error(self, loss: float, outputs: int) -> float | None:  # noqa: ARG002
        """Return the mean squared error of an output, where it follows from the mean loss of rows.

        Args:
            loss: mean over the rows.
            outputs: of a row.
        """
        return None

    @abstractmethod
    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass.

        Args:
            outputs: of the network.
            targets: of the same rows.
            workspace: where all buffers of the pass come from; by default one of the loss's own.
        """


class SoftmaxCrossEntropy(Loss, frozen=True, tag="softmax-cross-entropy"):
    """``-log softmax(y)[t]``, from the logits, by the stable log-sum-exp.

    `dptrain.nn.cross_entropy` is the same of probabilities, with the notes' guard of 1e-7.
    """

    def check(self, output_shape: Shape, classes: int, target_shape: Shape) -> None:
        """Demand class labels as well."""
        if not classes:
            raise ShapeError(
                "softmax-cross-entropy needs class labels, but the targets are real numbers of "
                f"shape {target_shape}; use --loss sum-of-squares"
            )
        super().check(output_shape, classes, target_shape)

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        return BoundSoftmaxCrossEntropy(outputs, targets, workspace or Workspace())


class BoundSoftmaxCrossEntropy(BoundLoss):
    """Softmax and cross-entropy in one: the gradient is ``(softmax(y) - onehot(t)) / N``."""

    def __init__(self, outputs: Blocks, targets: Blocks, workspace: Workspace) -> None:
        super().__init__(outputs, targets, workspace)
        self.totals = [workspace.empty((*y.shape[:2], 1), y.dtype) for y in outputs]
        self.at_labels = [workspace.empty(y.shape[:2], y.dtype) for y in outputs]
        self.calls = [each for i in range(len(outputs)) for each in self._block_calls(i)]

    def _block_calls(self, i: int) -> list[Call]:
        """``log Σ exp(y - max y) - (y[t] - max y)`` of every row."""
        y, shifted, total, row = self.outputs[i], self.gradients[i], self.totals[i], self.rows[i]
        cells, at_label = self.cells[i], self.at_labels[i]
        return [
            call(np.maximum.reduce, y, -1, None, total, keepdims=True),
            call(np.subtract, y, total, shifted),
            call(np.add, self.first_cells[i], self.targets[i], cells),
            call(self.flat_gradients[i].take, cells, None, at_label, "clip"),
            call(np.exp, shifted, shifted),
            call(np.add.reduce, shifted, -1, None, total, keepdims=True),
            call(np.log, total[..., 0], row),
            call(np.subtract, row, at_label, row),
        ]

    def losses(self) -> list[float]:
        """Compute the rows' losses, and sum them."""
        run(self.calls)
        return self.summed()

    def backward(self, rows: int) -> Blocks:
        """``(softmax(y) - onehot(t)) / rows``."""
        share = 1 / rows
        for i, gradient in enumerate(self.gradients):
            total = self.totals[i]
            np.multiply(total, rows, total)
            np.divide(gradient, total, gradient)
            self.flat_gradients[i][self.cells[i]] -= share
        return self.gradients


class SumOfSquares(Loss, frozen=True, tag="sum-of-squares"):
    """``½ Σ (y - t)²`` over the outputs of a row; class labels stand for one-hot rows."""

    def squared_error(self, loss: float, outputs: int) -> float | None:
        """Return the mean squared error of an output."""
        return 2 * loss / outputs

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        return BoundSumOfSquares(outputs, targets, workspace or Workspace())


class BoundSumOfSquares(BoundLoss):
    """The gradient is ``(y - t) / N``."""

    def __init__(self, outputs: Blocks, targets: Blocks, workspace: Workspace) -> None:
        super().__init__(outputs, targets, workspace)
        self.squares = [workspace.empty(y.shape, y.dtype) for y in outputs]

    def losses(self) -> list[float]:
        """``½ Σ (y - t)²`` of every row."""
        for i, (y, t) in enumerate(zip(self.outputs, self.targets, strict=True)):
            error = self.gradients[i]
            if self.labels[i]:
                np.copyto(error, y)
                self.flat_gradients[i][self.label_cells(i)] -= 1
            else:
                np.subtract(y, t, out=error)
            np.multiply(error, error, out=self.squares[i])
            np.add.reduce(self.squares[i], axis=-1, out=self.rows[i])
            np.multiply(self.rows[i], 0.5, out=self.rows[i])
        return self.summed()

    def backward(self, rows: int) -> Blocks:
        """``(y - t) / rows``."""
        for gradient in self.gradients:
            np.divide(gradient, rows, out=gradient)
        return self.gradients


AnyLoss = SoftmaxCrossEntropy | SumOfSquares
LOSSES: dict[str, type[AnyLoss]] = {
    "softmax-cross-entropy": SoftmaxCrossEntropy,
    "sum-of-squares": SumOfSquares,
}
