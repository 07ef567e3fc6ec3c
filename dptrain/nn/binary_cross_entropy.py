"""Cross-entropy of yes or no, for each output alone, from logits."""

import numpy as np

from dptrain.errors import DataError
from dptrain.nn.functions import sigmoid
from dptrain.nn.layer import Array, Blocks
from dptrain.nn.loss import BoundLoss, Loss
from dptrain.nn.workspace import Workspace


class BinaryCrossEntropy(Loss, frozen=True, tag="binary-cross-entropy"):
    """``-(p t log σ(y) + (1 - t) log σ(-y))``, the mean over the outputs of a row.

    ``t`` is 0 or 1, or between them. Real targets are the ``t``, one for each output, so that
    several may be 1. Class labels are: with a single output and two classes, the label itself;
    otherwise one-hot rows. ``positive_weight`` is ``p``: above 1 it makes the misses count more
    than the false alarms. As PyTorch's ``BCEWithLogitsLoss(pos_weight=p)``.
    """

    positive_weight: float = 1.0

    binary = True
    probabilistic = True

    def check_values(self, targets: Array, part: str) -> None:
        """Demand targets from 0 to 1."""
        fits = ((targets >= 0) & (targets <= 1)).all(axis=-1)
        if not fits.all():
            row = int(np.argmin(fits))
            raise DataError(
                f"binary-cross-entropy needs targets from 0 to 1, but row {row} (counting from 0) "
                f"of the {part} part has {targets[row]}; use --loss mean-squared-error"
            )

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        return BoundBinaryCrossEntropy(
            outputs, targets, workspace or Workspace(), self.positive_weight
        )

    def predictions(self, outputs: Array) -> Array:
        """Return probabilities, each for itself."""
        return sigmoid(outputs)


class BoundBinaryCrossEntropy(BoundLoss):
    """Only sums of what is not negative, so that nothing cancels, with ``u = exp(-|y|) ≤ 1``.

    The loss is ``p t (max(-y, 0) + log1p(u)) + (1 - t) (max(y, 0) + log1p(u))``, the gradient
    ``((1 - t) σ(y) - p t σ(-y)) / N``. Of ``σ(y)`` and ``σ(-y)`` the smaller is ``u / (1 + u)``,
    the larger ``1 / (1 + u)``.
    """

    binary = True

    def __init__(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace, positive_weight: float
    ) -> None:
        super().__init__(outputs, targets, workspace)
        self.positive_weight = positive_weight
        yes, no, powers, terms, parts = (
            [workspace.empty(y.shape, y.dtype) for y in outputs] for _ in range(5)
        )
        self.yes, self.no, self.powers, self.terms, self.parts = yes, no, powers, terms, parts

    def _weigh(self, i: int) -> None:
        """Put ``p t`` into ``yes`` and ``1 - t`` into ``no``."""
        yes, targets = self.yes[i], self.targets[i]
        if not self.labels[i]:
            np.copyto(yes, targets)
        elif yes.shape[-1] == 1:
            np.copyto(yes[..., 0], targets, casting="same_kind")
        else:
            yes.fill(0)
            yes.reshape(-1)[self.label_cells(i)] = 1
        np.subtract(1, yes, out=self.no[i])
        np.multiply(yes, self.positive_weight, out=yes)

    def losses(self) -> list[float]:
        """Compute the rows' losses, and sum them."""
        for i, y in enumerate(self.outputs):
            self._weigh(i)
            yes, no, u, total = self.yes[i], self.no[i], self.powers[i], self.gradients[i]
            term, part = self.terms[i], self.parts[i]
            np.maximum(y, 0, out=total)
            np.subtract(total, y, out=term)
            np.multiply(total, no, out=total)
            np.multiply(term, yes, out=term)
            np.add(total, term, out=total)
            np.abs(y, out=u)
            np.negative(u, out=u)
            np.exp(u, out=u)
            np.log1p(u, out=term)
            np.add(yes, no, out=part)
            np.multiply(term, part, out=term)
            np.add(total, term, out=total)
            np.add.reduce(total, axis=-1, out=self.rows[i])
            np.divide(self.rows[i], y.shape[-1], out=self.rows[i])
        return self.summed()

    def backward(self, rows: int) -> Blocks:
        """``((1 - t) σ(y) - p t σ(-y)) / rows``, divided by the outputs of a row."""
        for i, (y, gradient) in enumerate(zip(self.outputs, self.gradients, strict=True)):
            u, term = self.powers[i], self.terms[i]
            np.greater_equal(y, 0, out=gradient)
            np.maximum(gradient, u, out=gradient)
            np.multiply(gradient, self.no[i], out=gradient)
            np.less(y, 0, out=term)
            np.maximum(term, u, out=term)
            np.multiply(term, self.yes[i], out=term)
            np.subtract(gradient, term, out=gradient)
            np.add(u, 1, out=u)
            np.multiply(u, rows * y.shape[-1], out=u)
            np.divide(gradient, u, out=gradient)
        return self.gradients
