"""The base of losses: a mean over the global minibatch, and its gradient.

A loss bound to the outputs and targets of one pass yields, for every shard, the *sum* of its rows'
losses, and gradients already divided by the number of rows of the *global* minibatch. So no mean
of means is ever formed, and uneven and empty shards are exact.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dptrain.errors import ShapeError
from dptrain.nn.layer import Array, Blocks, Shape
from dptrain.nn.workspace import Workspace


class BoundLoss(ABC):
    """A loss bound to the buffers of one pass.

    Attributes:
        outputs: the network's outputs, blocks of shape ``(shards, rows, units)``.
        targets: class labels ``(shards, rows)`` int64, or values ``(shards, rows, units)``.
        gradients: of the outputs, the same shapes as the outputs.
        binary: whether a single output tells two classes apart by its sign.
    """

    binary: ClassVar[bool] = False

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

    def weighted_losses(self, weights: Blocks) -> list[float]:
        """Return `losses`, each row's times its weight: blocks ``(shards, rows)``."""
        self.losses()
        for row, weight in zip(self.rows, weights, strict=True):
            np.multiply(row, weight, out=row)
        return self.summed()

    def weighted_backward(self, rows: int, weights: Blocks) -> Blocks:
        """Return the gradients of `weighted_losses`, as `backward` does."""
        gradients = self.backward(rows)
        for gradient, weight in zip(gradients, weights, strict=True):
            np.multiply(gradient, weight[..., np.newaxis], out=gradient)
        return gradients

    def correct(self) -> list[int]:
        """Return for each shard how many rows have their largest output at their label.

        Of a single output that tells two classes apart, those positive where the label is 1.
        """
        found: list[int] = []
        for y, t in zip(self.outputs, self.targets, strict=True):
            signed = self.binary and y.shape[-1] == 1
            decided = np.greater(y[..., 0], 0) if signed else np.argmax(y, axis=-1)
            found += np.count_nonzero(decided == t, axis=-1).tolist()
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
    """The description of a loss; its fields are fields of the experiment.

    Attributes:
        binary: whether a single output may tell two classes apart: class 1 where it is positive.
        probabilistic: whether `predictions` are probabilities.
        any_scale: whether targets may have any scale, since only differences from them count.
    """

    binary: ClassVar[bool] = False
    any_scale: ClassVar[bool] = False
    probabilistic: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The name of this kind of loss, such as ``"hinge"``."""
        return str(self.__struct_config__.tag)

    def check(self, output_shape: Shape, classes: int, target_shape: Shape) -> None:
        """Raise `ShapeError` where the network's output does not fit the data's targets."""
        wanted = (classes,) if classes else target_shape
        single = classes == 2 and output_shape == (1,)
        if output_shape == wanted or (single and self.binary):
            return
        if classes == 1:
            raise ShapeError("all targets are of class 0; there must be two classes to tell apart")
        what = f"{classes} classes" if classes else f"targets of shape {target_shape}"
        units = wanted[0] if wanted else 1
        # what targets are was told by their kind, which may not be what was meant
        hint = ", or use --loss binary-cross-entropy" if single else ""
        if not classes and target_shape == (1,):
            hint = "; where they are whole numbers of classes, give --task classification"
        elif classes > 2 and output_shape == (1,):
            hint = "; where they are numbers to predict, give --task regression"
        raise ShapeError(
            f"the network's output has shape {output_shape}, but the data set has {what}; "
            f"end the network with {units} unit{'s' * (units != 1)}{hint}"
        )

    def check_labelled(self, classes: int, target_shape: Shape) -> None:
        """Raise `ShapeError` where the targets are not class labels."""
        if not classes:
            raise ShapeError(
                f"{self.kind} needs class labels, but the targets are real numbers of shape "
                f"{target_shape}; use --loss sum-of-squares, or where they are whole numbers of "
                "classes give --task classification"
            )

    def check_values(self, targets: Array, part: str) -> None:
        """Raise `DataError` where real targets ``(n, k)`` lie outside what the loss is for.

        ``part`` of the data is ``"train"`` or ``"test"``.
        """

    def predictions(self, outputs: Array) -> Array:
        """Return what a network trained with this loss predicts, from its outputs ``(n, k)``."""
        return outputs

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
