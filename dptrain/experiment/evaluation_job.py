"""The job in which trained weights are evaluated, on the run's own data set or another."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from dptrain.data.dataset import Dataset
from dptrain.data.prepared import data_digest
from dptrain.data.rescaling import ScaleWarning, change_for
from dptrain.data.source import PACKAGED, SourceKind, find_source
from dptrain.errors import DataError, ShapeError
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import data_choices, opened_data, prepared_data
from dptrain.experiment.schema import Settled
from dptrain.experiment.setting_types import TaskName
from dptrain.own.origin import Origin, demand


def evaluation_job(
    experiment: Settled,
    dataset: str | None,
    origin: Origin | None = None,
    class_names: Sequence[str] = (),
) -> Job:
    """Return the job in which trained weights are evaluated.

    Another data set is read as that of the run was: columns are found by name, and classes have the
    run's numbers. All of its rows are test rows, unless it has a test part.

    Args:
        experiment: settled.
        dataset: a data set other than the one that was trained on.
        origin: where a network of the user's own comes from.
        class_names: of the run, empty for a regression; only for another data set.

    Raises:
        DataError, UsageError, ShapeError: there is no such data set, or it does not fit; or the
            network is code that the user has not named.
    """
    demand(experiment.model, origin)
    if dataset is not None:
        if find_source(dataset).kind is not SourceKind.CSV:
            experiment = msgspec.structs.replace(
                experiment, label=None, columns=None, header=None, row_weights=None
            )
        transpose = experiment.transpose and dataset not in PACKAGED
        experiment = msgspec.structs.replace(experiment, dataset=dataset, transpose=transpose)
    if dataset and not _is_own_data(experiment):
        experiment, opened = _foreign(experiment, class_names)
    else:
        opened = opened_data(experiment, prepared_data(experiment))
    change, doubt = change_for(opened.scale, experiment.input_scale, opened.sample_shape)
    if doubt:
        warnings.warn(f"{experiment.dataset}: {doubt}", ScaleWarning, stacklevel=2)
    return Job(experiment, opened.changed(change), origin)


def _is_own_data(experiment: Settled) -> bool:
    """Return whether a data set is the one that the run was trained on, wherever it lies."""
    try:
        return (
            data_digest(experiment.dataset, data_choices(experiment)) == experiment.dataset_digest
        )
    except DataError:
        if experiment.row_weights is None:
            raise
        return False  # other tables need no weights; what else is wrong will be told


def _foreign(experiment: Settled, class_names: Sequence[str]) -> tuple[Settled, Dataset]:
    """Return the experiment on data that the run has not seen, and these as test rows."""
    task: TaskName = "classification" if class_names else "regression"
    experiment = msgspec.structs.replace(
        experiment,
        train_rows=None,
        validation=0.0,
        test=0.0,
        task=task,
        row_weights=None,  # which are for training
    )
    opened = opened_data(experiment, prepared_data(experiment, class_names, centred=False))
    experiment = msgspec.structs.replace(experiment, dataset_digest=None)
    size, wanted = math.prod(opened.sample_shape), math.prod(experiment.input_shape or ())
    if experiment.input_shape and size != wanted:
        raise ShapeError(
            f"{experiment.dataset} has samples of {size} values, but the run learnt from {wanted}"
        )
    if len(opened.test):
        return experiment, opened
    nothing = replace(opened.train, index=np.empty(0, np.intp))
    return experiment, replace(opened, train=nothing, test=opened.train)
