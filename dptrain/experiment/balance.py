"""Weights of classes by how rare they are."""

import numpy as np
from msgspec.structs import replace

from dptrain.data.dataset import Dataset
from dptrain.errors import UsageError
from dptrain.experiment.schema import Experiment

BALANCED = "balanced"


def balanced(experiment: Experiment, dataset: Dataset) -> Experiment:
    """Return an experiment with numbers where its class weights are to be balanced.

    ``n / (k n_c)`` for ``n_c`` of ``n`` training rows in one of ``k`` classes, so that all classes
    weigh the same together, and the average row 1.

    Raises:
        UsageError: there are no classes, or no training row of one.
    """
    if experiment.class_weights != BALANCED:
        return experiment
    if not dataset.classes:
        raise UsageError(f"class_weights={BALANCED!r} is for classes, but these are numbers")
    split = dataset.train
    labels = split.targets if split.index is None else split.targets[split.index]
    counts = np.bincount(labels, minlength=dataset.classes)
    if not counts.all():
        name = dataset.class_names[int(counts.argmin())]
        raise UsageError(
            f"class_weights={BALANCED!r}: no training row is of class {name!r}, which could have "
            "any weight; give the weights as numbers"
        )
    weights = len(labels) / (dataset.classes * counts)
    return replace(experiment, class_weights=[float(f"{weight:.6g}") for weight in weights])
