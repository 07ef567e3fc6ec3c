"""Class weights that balance rare and frequent classes."""

import numpy as np
from msgspec.structs import replace

from dptrain.data.dataset import Dataset
from dptrain.errors import UsageError
from dptrain.experiment.schema import Experiment

BALANCED = "balanced"


def balanced(experiment: Experiment, dataset: Dataset) -> Experiment:
    """Return an experiment with ``class_weights="balanced"`` replaced by numbers.

    A class with ``n_c`` of the ``n`` training rows, one of ``k`` classes, gets ``n / (k n_c)``: all
    classes then have the same total weight, and rows a mean weight of 1.

    Raises:
        UsageError: there are no classes, or a class has no training rows.
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
