"""One try of a network of the user's own before a run begins, on a copy of it.

What workers would stumble over is found in the coordinator, once, before anything is written; and
what would make results differ between executions is warned of.
"""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.own.model import OwnModel
from dptrain.own.network import OwnNetwork, Seeds


def rehearse(network: OwnNetwork, x: NDArray[Any], t: NDArray[Any]) -> list[str]:
    """Compute losses and gradients of a few rows; return warnings.

    Args:
        network: to try.
        x: rows as the data set has them ``(n, *sample_shape)``.
        t: their targets.

    Raises:
        UsageError: something is missing, has a wrong shape, or does not heed ``params``.
        OwnCodeError: the network raised.
    """
    model = _copied(network.model)
    form = network.form
    rows = x.reshape(len(x), *form.inputs)
    targets = np.eye(form.classes, dtype=x.dtype)[t] if form.one_hot else t
    targets = targets.reshape(-1) if form.flat else targets
    seed = Seeds(0).evaluation
    with np.errstate(all="ignore"):
        before = model.loss(rows, targets, seed)
        first = _gradients(model, rows, targets, seed)
        second = _gradients(model, rows, targets, seed)
        slopes = any(map(np.any, first))
        after = model.loss(rows, targets, seed)
        if network.scores:
            model.correct(rows, targets, t, form.classes, seed)
        if slopes and not _heeds_params(network.model, rows, targets, seed):
            raise UsageError(
                f"the loss of {model.name} does not change with its .params, though its gradient "
                "is not zero; its layers must hold the arrays of params themselves, not copies"
            )
    if not all(map(np.array_equal, first, second)) and np.isfinite(before):
        return [
            f"{model.name} gives other gradients for the same weights and rows; where it draws "
            "from a generator of its own, let it use np.random, which is seeded for every shard; "
            "as it is, the weights depend on the number of workers"
        ]
    if before != after and np.isfinite(before):
        return [
            f"{model.name} keeps something between calls beside its .params, such as the running "
            "averages of batch normalisation; each worker keeps its own, so that losses and "
            "accuracies depend on the number of workers, and checkpoints have none of it"
        ]
    return []


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


def _copied(model: OwnModel) -> OwnModel:
    """Return a copy; or the model itself, with what it has, where it cannot be copied."""
    try:
        return OwnModel(copy.deepcopy(model.subject), model.name)
    except Exception:  # noqa: BLE001 - objects may refuse to be copied in their own ways
        return model
