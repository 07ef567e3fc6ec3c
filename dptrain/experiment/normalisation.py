"""The statistics that normalise inputs and targets, computed from the training rows only."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import Dataset, Split
from dptrain.data.statistics import input_statistics
from dptrain.data.target_scale import target_scale_of
from dptrain.data.writing import Offsets
from dptrain.errors import DataError, UsageError
from dptrain.experiment.schema import Experiment, Settled
from dptrain.nn.network import Network
from dptrain.nn.normalise import Method, Normalise

Array = NDArray[Any]


def check_normalisation(network: Network) -> None:
    """Raise `UsageError` where a `Normalise` layer stands where no inputs come in."""
    kind = str(Normalise.__struct_config__.tag)
    for tensor in (tensor for own in network.tensors[1:] for tensor in own):
        if any(part.startswith(kind) for part in tensor.name.split(".")):
            raise UsageError(
                f"{tensor.name.rpartition('.')[0]} stands behind other layers, but normalises the "
                "inputs; put it first, once, or use a BatchNorm"
            )


def fit_normalisation(network: Network, parameters: Array, train: Split) -> None:
    """Write the shift and the scale of a network's `Normalise` layer, if it has one.

    Args:
        network: the description.
        parameters: the flat vector ``(network.size,)`` to write to.
        train: the training rows.

    Raises:
        DataError: the range of an input is more than the dtype can hold.
    """
    first = network.row[0]
    if isinstance(first.layer, Normalise):
        views = network.views(parameters)
        shift, scale = (views[f"{first.name}.{name}"] for name in ("shift", "scale"))
        shift[...], scale[...] = shift_and_scale(train, first.layer.method, parameters.dtype)


def shift_and_scale(train: Split, method: Method, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return the shift to subtract from inputs and the scale to divide them by, in a dtype."""
    with np.errstate(over="ignore", under="ignore"):  # both are looked for below
        found = input_statistics(train, dtype)
        if method == "standard":
            shift, scale = found.mean, found.deviation
        else:
            shift, scale = found.low, found.high - found.low
        shift, scale = shift.astype(dtype), scale.astype(dtype)
    # not where the deviation is 0: that of equal values may be a rounding error
    scale[(found.high == found.low) | (scale == 0)] = 1
    if not np.isfinite(scale).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(scale))[0])
        raise DataError(
            f"the inputs at {place} lie from {found.low[place]:g} to {found.high[place]:g}, too "
            f"far apart to be normalised in {dtype}; divide them by a constant"
        )
    return shift, scale


def offsets_for(experiment: Experiment, *, centred: bool = True) -> Offsets:
    """Return the offsets to subtract from inputs before they are rounded to the run's dtype.

    What was taken off in the run whose experiment it is. Where inputs are normalised, and no run
    has been recorded yet, what saves the digits of their columns; the layer takes the rest of the
    mean off. ``centred`` is false where that is not to be found out.
    """
    if experiment.input_offsets is not None:
        return experiment.input_offsets
    new = experiment.dataset_digest is None and experiment.normalise != "none"
    return "find" if new and centred else None


def with_target_scale(experiment: Settled, dataset: Dataset) -> Settled:
    """Return the experiment with the mean and deviation that standardise its targets, if any.

    A scale that is there already stays: that of the run whose experiment it is.

    Raises:
        UsageError: the targets are classes.
        DataError: they differ by too much.
    """
    if experiment.normalise_targets == "none" or experiment.target_scale is not None:
        return experiment
    if dataset.classes:
        raise UsageError(
            f"normalise_targets={experiment.normalise_targets} is for numbers to predict, but the "
            f"targets are {dataset.classes} classes; leave it out, or give --task regression where "
            "the numbers themselves are to be predicted"
        )
    scale = target_scale_of(dataset.train.targets, dataset.train.index)
    return msgspec.structs.replace(experiment, target_scale=scale)
