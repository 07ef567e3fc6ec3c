"""One try of a network of the user's own before a run begins, on a copy of it.

What workers would stumble over is found in the coordinator, once, before anything is written; and
what would make results differ between executions is warned of.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.own.model import OwnModel
from dptrain.own.network import OwnNetwork, Seeds


class Rehearsal(NamedTuple):
    """What was found.

    Attributes:
        warnings: of what the user should know.
        coupled: empty where loss and gradient are means over rows that do not depend on each other;
            otherwise a clause that says why they are not.
    """

    warnings: list[str]
    coupled: str


def rehearse(network: OwnNetwork, x: NDArray[Any], t: NDArray[Any]) -> Rehearsal:
    """Compute losses and gradients of a few rows.

    Args:
        network: to try.
        x: rows as the data set has them ``(n, *sample_shape)``.
        t: their targets.

    Raises:
        UsageError: something is missing, has a wrong shape, or does not heed ``params``.
        OwnCodeError: the network raised.
    """
    form, model = network.form, network.model.copied() or network.model
    model.load(model.tensors())
    rows, targets = form.rows(x), form.goals(t, x.dtype)
    seed = Seeds(0).evaluation
    with np.errstate(all="ignore"):
        before = model.loss(rows, targets, seed)
        first = _gradients(model, rows, targets, seed)
        second = _gradients(model, rows, targets, seed)
        slopes = any(map(np.any, first))
        if network.scores:
            model.correct(rows, targets, t, form.classes, seed)
        if slopes and not _heeds_params(model, rows, targets, seed):
            raise UsageError(
                f"the loss of {model.name} does not change with its .params, though its gradient "
                "is not zero; its layers must hold the arrays of params themselves, not copies"
            )
    warnings = []
    if not all(map(np.array_equal, first, second)) and np.isfinite(before):
        warnings = [
            f"{model.name} gives other gradients for the same weights and rows; where it draws "
            "from a generator of its own, let it use np.random, which is seeded for every shard; "
            "as it is, the weights depend on the number of workers"
        ]
    return Rehearsal(warnings, "")


def _gradients(model: OwnModel, x: NDArray[Any], t: NDArray[Any], seed: int) -> list[NDArray[Any]]:
    _, gradients = model.loss_and_gradient(x, t, seed)
    return [np.array(gradient) for gradient in gradients.values()]


def _heeds_params(model: OwnModel, x: NDArray[Any], t: NDArray[Any], seed: int) -> bool:
    """Return whether other parameters give another loss; they are put back."""
    start = [array.copy() for array in model.params.values()]
    here = model.loss(x, t, seed)
    try:
        model.load([array * 1.25 + 0.01 for array in start])
        return model.loss(x, t, seed) != here
    finally:
        model.load(start)
