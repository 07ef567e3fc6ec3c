"""Hinge losses: with one dense layer and an L2 penalty, a linear support vector machine."""

import numpy as np

from dptrain.nn.layer import Blocks, Shape
from dptrain.nn.loss import BoundLoss, Loss
from dptrain.nn.workspace import Workspace


class Hinge(Loss, frozen=True, tag="hinge"):
    """``Σ_{j≠t} max(0, 1 + y_j - y_t)`` over the classes (Weston and Watkins 1999).

    With a single output and two classes, ``max(0, 1 - s y)``, where ``s`` is 1 for class 1 and -1
    for class 0 (Cortes and Vapnik 1995). At a kink the derivative is taken as 0. The sum is not
    divided by the number of classes; PyTorch's ``MultiMarginLoss`` is, and otherwise the same.
    """

    binary = True

    def check(self, output_shape: Shape, classes: int, target_shape: Shape) -> None:
        """Demand class labels as well."""
        self.check_labelled(classes, target_shape)
        super().check(output_shape, classes, target_shape)

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        single = bool(outputs) and outputs[0].shape[-1] == 1
        kind = BoundBinaryHinge if single else BoundHinge
        return kind(outputs, targets, workspace or Workspace())


class BoundHinge(BoundLoss):
    """The gradient is 1 at every class within the margin, and minus their number at the label."""

    def __init__(self, outputs: Blocks, targets: Blocks, workspace: Workspace) -> None:
        super().__init__(outputs, targets, workspace)
        self.margins = [workspace.empty(y.shape, y.dtype) for y in outputs]
        self.at_labels = [workspace.empty((*y.shape[:2], 1), y.dtype) for y in outputs]

    def losses(self) -> list[float]:
        """``Σ_{j≠t} max(0, 1 + y_j - y_t)`` of every row."""
        for i, y in enumerate(self.outputs):
            cells, margin, at_label = self.label_cells(i), self.margins[i], self.at_labels[i]
            y.reshape(-1).take(cells, None, at_label[..., 0], "clip")
            np.subtract(y, at_label, out=margin)
            np.add(margin, 1, out=margin)
            margin.reshape(-1)[cells] = 0
            np.maximum(margin, 0, out=margin)
            np.add.reduce(margin, axis=-1, out=self.rows[i])
        return self.summed()

    def backward(self, rows: int) -> Blocks:
        """Count the classes within the margin."""
        for i, gradient in enumerate(self.gradients):
            count = self.at_labels[i]
            np.greater(self.margins[i], 0, out=gradient)
            np.add.reduce(gradient, axis=-1, out=count, keepdims=True)
            np.negative(count, out=count)
            self.flat_gradients[i][self.cells[i]] = count[..., 0]
            np.divide(gradient, rows, out=gradient)
        return self.gradients


class BoundBinaryHinge(BoundLoss):
    """The gradient is ``-s / N`` within the margin."""

    binary = True

    def __init__(self, outputs: Blocks, targets: Blocks, workspace: Workspace) -> None:
        super().__init__(outputs, targets, workspace)
        self.signs = [workspace.empty(y.shape, y.dtype) for y in outputs]
        self.margins = [workspace.empty(y.shape, y.dtype) for y in outputs]

    def losses(self) -> list[float]:
        """``max(0, 1 - s y)`` of every row."""
        for i, y in enumerate(self.outputs):
            sign, margin = self.signs[i], self.margins[i]
            np.copyto(sign[..., 0], self.targets[i], casting="same_kind")
            np.multiply(sign, 2, out=sign)
            np.subtract(sign, 1, out=sign)
            np.multiply(sign, y, out=margin)
            np.subtract(1, margin, out=margin)
            np.maximum(margin, 0, out=margin)
            np.copyto(self.rows[i], margin[..., 0])
        return self.summed()

    def backward(self, rows: int) -> Blocks:
        """``-s / rows`` where the loss is not 0."""
        for gradient, margin, sign in zip(self.gradients, self.margins, self.signs, strict=True):
            np.greater(margin, 0, out=gradient)
            np.multiply(gradient, sign, out=gradient)
            np.divide(gradient, -rows, out=gradient)
        return self.gradients
