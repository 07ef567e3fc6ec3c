"""Recorded data that have moved: their digest decides whether they are the same."""

from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from dptrain.data.prepared import prepare_as_arrays
from dptrain.experiment.job_data import prepared_data
from dptrain.experiment.normalisation import offsets_for
from dptrain.experiment.own_code import MEMORY
from dptrain.experiment.schema import Experiment
from dptrain.experiment.settling import from_anywhere

S = TypeVar("S", bound=Experiment)


def data_at(experiment: S, dataset: str, *, thorough: bool = False) -> tuple[S, Path]:
    """Return a recorded experiment whose data are in another place, and their prepared folder.

    Where the experiment was trained on arrays in memory, the data set may be a file that holds the
    same arrays. Whether they are the same is for `dptrain.experiment.job.check_digest` to say.

    Args:
        experiment: settled.
        dataset: where the data are now.
        thorough: as for `prepared_data`.

    Raises:
        DataError, UsageError: there are none there.
    """
    if experiment.dataset == MEMORY:
        return experiment, prepare_as_arrays(
            dataset,
            dtype=experiment.dtype,
            task=experiment.task,
            exact_targets=experiment.normalise_targets != "none",
            offsets=offsets_for(experiment),
        )
    data = prepared_data(replace(experiment, dataset=dataset), thorough=thorough)
    return replace(experiment, dataset=from_anywhere(dataset)), data
