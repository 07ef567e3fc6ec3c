"""Cross-entropy of one class among several, from logits, by the stable log-sum-exp."""

from collections.abc import Sequence

import numpy as np

from dptrain.errors import ShapeError
from dptrain.nn.calls import Call, call, run
from dptrain.nn.functions import softmax
from dptrain.nn.layer import Array, Blocks, Shape
from dptrain.nn.loss import BoundLoss, Loss
from dptrain.nn.workspace import Workspace


class SoftmaxCrossEntropy(Loss, frozen=True, tag="softmax-cross-entropy"):
    """``-Σ_c w_c q_c log softmax(y)_c``, where ``q`` is 1 at the label, by default without ``w``.

    With ``label_smoothing`` ``a``, ``q_c`` is ``a / K`` for each of the ``K`` classes, and
    ``1 - a`` more at the label (Szegedy et al. 2016). ``class_weights`` are the ``w``.

    The mean over the minibatch is the sum divided by the number of its rows, also where there are
    weights. PyTorch's ``CrossEntropyLoss(weight, label_smoothing)`` has the same formula for a
    row, but its weighted mean is divided by the sum of the labels' weights, which depends on who
    else is in the minibatch. ``reduction="sum"`` divided by the rows gives the numbers from here.
    To keep the size of the gradient, give weights whose mean over the rows is 1.

    `dptrain.nn.functions.cross_entropy` is the same of probabilities, with the notes' guard of
    1e-7.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    probabilistic = True

    def check(self, output_shape: Shape, classes: int, target_shape: Shape) -> None:
        """Demand class labels as well, and a weight for each class."""
        self.check_labelled(classes, target_shape)
        super().check(output_shape, classes, target_shape)
        weights = self.class_weights
        if weights is not None and len(weights) != classes:
            raise ShapeError(
                f"class_weights has {len(weights)} numbers, but the data set has {classes} "
                "classes; give one for each class, in their order"
            )

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        workspace = workspace or Workspace()
        if not self.label_smoothing and self.class_weights is None:
            return BoundSoftmaxCrossEntropy(outputs, targets, workspace)
        units = outputs[0].shape[-1] if outputs else 1
        weights = np.array(self.class_weights or [1.0] * units)
        return BoundWeightedCrossEntropy(outputs, targets, workspace, self.label_smoothing, weights)

    def predictions(self, outputs: Array) -> Array:
        """Return probabilities, which sum to 1."""
        return softmax(outputs)


class BoundSoftmaxCrossEntropy(BoundLoss):
    """Softmax and cross-entropy in one: the gradient is ``(softmax(y) - onehot(t)) / N``."""

    def __init__(self, outputs: Blocks, targets: Blocks, workspace: Workspace) -> None:
        super().__init__(outputs, targets, workspace)
        self.totals = [workspace.empty((*y.shape[:2], 1), y.dtype) for y in outputs]
        self.at_labels = [workspace.empty(y.shape[:2], y.dtype) for y in outputs]
        self.calls = [each for i in range(len(outputs)) for each in self.block_calls(i)]

    def block_calls(self, i: int) -> Sequence[Call]:
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


class BoundWeightedCrossEntropy(BoundSoftmaxCrossEntropy):
    """The general form; the gradient is ``(Q softmax(y) - w q) / N`` with ``Q = Σ_c w_c q_c``.

    ``w q`` has two parts: the same ``a w / K`` in every row, and ``(1 - a) w_t`` at the label.
    """

    def __init__(
        self,
        outputs: Blocks,
        targets: Blocks,
        workspace: Workspace,
        smoothing: float,
        weights: Array,
    ) -> None:
        dtype = outputs[0].dtype if outputs else weights.dtype
        everywhere = weights * (smoothing / len(weights))
        self.everywhere_total = dtype.type(everywhere.sum())
        self.everywhere = everywhere.astype(dtype)
        self.everywhere_share = np.empty_like(self.everywhere)
        self.at_label_weights = (weights * (1 - smoothing)).astype(dtype)
        empty = workspace.empty
        self.weighted = [empty(y.shape, y.dtype) for y in outputs]
        self.own = [empty(y.shape[:2], y.dtype) for y in outputs]
        self.wholes = [empty(y.shape[:2], y.dtype) for y in outputs]
        self.spread = [empty(y.shape[:2], y.dtype) for y in outputs]
        super().__init__(outputs, targets, workspace)

    def block_calls(self, i: int) -> Sequence[Call]:
        """``Q log Σ exp z - Σ_c w_c q_c z_c`` of every row, with ``z = y - max y``."""
        z, own, spread, whole = self.gradients[i], self.own[i], self.spread[i], self.wholes[i]
        at_label, row = self.at_labels[i], self.rows[i]
        first, subtract, find, take, *others, log, _ = super().block_calls(i)
        return [
            *(first, subtract, find, take),
            call(self.at_label_weights.take, self.targets[i], None, own, "clip"),
            call(np.multiply, at_label, own, at_label),
            call(np.multiply, z, self.everywhere, self.weighted[i]),
            call(np.add.reduce, self.weighted[i], -1, None, spread),
            call(np.add, spread, at_label, spread),
            call(np.add, own, self.everywhere_total, whole),
            *others,
            log,
            call(np.multiply, row, whole, row),
            call(np.subtract, row, spread, row),
        ]

    def backward(self, rows: int) -> Blocks:
        """``(Q softmax(y) - w q) / rows``."""
        np.divide(self.everywhere, rows, out=self.everywhere_share)
        for i, gradient in enumerate(self.gradients):
            total, own = self.totals[i], self.own[i]
            np.multiply(total, rows, total)
            np.divide(self.wholes[i][..., np.newaxis], total, total)
            np.multiply(gradient, total, gradient)
            np.subtract(gradient, self.everywhere_share, gradient)
            np.divide(own, rows, own)
            self.flat_gradients[i][self.cells[i]] -= own
        return self.gradients
