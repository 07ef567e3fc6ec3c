"""Experiments whose network is the user's own code: their settings, and loading the code."""

import math
from collections.abc import Mapping
from typing import Any

from dptrain.data.dataset import Dataset
from dptrain.errors import ShapeError, UsageError
from dptrain.experiment.schema import LOSS_FIELDS, MODEL_FIELDS, Experiment
from dptrain.own.network import OwnNetwork, SampleForm
from dptrain.own.origin import Origin, demand, is_own

ROWS = 500
MEMORY = "memory"  # stands for arrays that were given to the Python API

# Settings of networks made of layers and of their losses, with what they are when not given.
DECIDED_BY_CODE: Mapping[str, object] = {
    **dict.fromkeys((*MODEL_FIELDS, "loss", *LOSS_FIELDS)),
    "normalise": "none",
    "normalise_targets": "none",
    "gradient": "backprop",
}


def evaluation_rows(experiment: Experiment) -> int:
    """Return how many rows are computed at once in evaluations and predictions.

    The number belongs to the experiment, so that the losses of an evaluation have the same bits
    whichever rank computes which piece. A network of the user's own gets no more rows than a
    minibatch has, for which its code has enough memory.
    """
    own = is_own(experiment.model) and experiment.layers is None
    return min(ROWS, experiment.batch_size or ROWS) if own else ROWS


def only_for_code(experiment: Experiment) -> str:
    """Return a setting of an experiment that only a network of the user's own has, or ``""``."""
    for name in ("model_args", "model_targets", "model_state", "decayed"):
        value = getattr(experiment, name)
        if value is not None:
            return f"{name}={value!r}"
    return ""


def settled_own(experiment: Experiment) -> dict[str, Any]:
    """Return the settings to fill in where the network is the user's own.

    Raises:
        UsageError: a setting that the code decides itself, or that means nothing.
    """
    for name, nothing in DECIDED_BY_CODE.items():
        value = getattr(experiment, name)
        if value != nothing:
            raise UsageError(
                f"{name}={value} means nothing to {experiment.model}, whose code decides it; "
                f"leave out --{name.replace('_', '-')}"
            )
    return {"model_targets": experiment.model_targets or "rows"}


def own_input_shape(experiment: Experiment, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which the user's network gets a sample.

    By default samples are flat, as most networks that people write expect. Arrays given to the
    Python API keep their shape.

    Raises:
        ShapeError: samples cannot be brought into that shape.
    """
    size = math.prod(sample_shape)
    if experiment.input_shape is None:
        return sample_shape if experiment.dataset == MEMORY else (size,)
    shape = tuple(experiment.input_shape)
    if math.prod(shape) != size:
        raise ShapeError(
            f"input_shape={list(shape)} is {math.prod(shape)} numbers, but the data set has "
            f"samples of shape {sample_shape}, which is {size}"
        )
    return shape


def own_network(experiment: Experiment, dataset: Dataset, origin: Origin | None) -> OwnNetwork:
    """Return the network of an experiment that is the user's own.

    Args:
        experiment: settled.
        dataset: opened.
        origin: the code that the user has named or given in this process or its parent, if any.

    Raises:
        UsageError: the user has not named this code, or it has changed.
        OwnCodeError: the code raised an exception.
    """
    demand(experiment.model, origin)
    assert origin is not None
    origin.check(experiment.model, experiment.model_digest)
    if dataset.train.weights is not None:
        raise UsageError(
            f"rows cannot be weighed for {experiment.model}, whose code returns the mean over "
            "rows; give dptrain.fit the weights as a column of the targets, "
            "np.column_stack([t, w]), with task=regression, and have the code return the mean of "
            "w * loss"
        )
    shape = own_input_shape(experiment, dataset.sample_shape)
    model = origin.make(experiment.model_args, experiment.seed)
    if experiment.model_state is not None:
        model = model.with_state(experiment.model_state)
    if dataset.class_names == ("-1", "1"):
        raise UsageError(
            "the labels -1 and 1 are classes, which reach code of your own as 0 and 1; give "
            "--task regression to have them as numbers, as they are, or make them (t + 1) // 2"
        )
    flat = experiment.model_targets == "flat"
    if flat and dataset.target_shape not in ((), (1,)):
        raise ShapeError(
            f"model_targets=flat is for single values, but the data set has targets of shape "
            f"{dataset.target_shape}; leave it out"
        )
    form = SampleForm(shape, dataset.classes, flat)
    freeze, decayed = experiment.freeze or (), experiment.decayed
    return OwnNetwork(experiment.model, model.shapes, form, model, freeze, decayed)
