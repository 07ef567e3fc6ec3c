"""The data set of an experiment: preparing, splitting and checking its digest."""

from collections.abc import Sequence
from pathlib import Path

from dptrain.data.dataset import Dataset, open_dataset
from dptrain.data.prepared import prepare
from dptrain.data.source import PACKAGED, ReadChoices
from dptrain.errors import DataError
from dptrain.experiment.models import shape_of_samples
from dptrain.experiment.normalisation import offsets_for
from dptrain.experiment.own_code import MEMORY
from dptrain.experiment.schema import Experiment


def opened_data(experiment: Experiment, folder: Path) -> Dataset:
    """Return the data set that lies prepared in ``folder``, split as the experiment says.

    Raises:
        DataError, UsageError: as `open_dataset`.
    """
    opened = open_dataset(
        folder,
        validation=experiment.validation,
        test=experiment.test,
        seed=experiment.seed,
        train_rows=experiment.train_rows,
    )
    return opened.shaped(shape_of_samples(experiment, opened.sample_shape))


def prepared_data(
    experiment: Experiment,
    class_names: Sequence[str] = (),
    *,
    centred: bool = True,
    thorough: bool = False,
) -> Path:
    """Return the folder of an experiment's prepared data set; prepare it if needed.

    ``class_names`` are those of a run whose numbering is to be kept. ``centred`` is that of
    `offsets_for`, ``thorough`` that of `prepare`.

    Raises:
        DataError: there is no such data set, or it was arrays in memory.
    """
    if experiment.dataset == MEMORY:
        raise DataError(
            "the run was trained on the arrays of a script, which dptrain.fit has to be given "
            "again; or name a file with the same arrays, x_train and t_train, as --dataset FILE.npz"
        )
    recorded, path = experiment.dataset_digest is not None, Path(experiment.dataset).expanduser()
    if recorded and experiment.dataset not in PACKAGED and not path.exists():
        raise DataError(
            f"the data set is no longer at {experiment.dataset}; name where the same data lie "
            "with --dataset"
        )
    return prepare(
        experiment.dataset,
        data_choices(experiment, class_names),
        dtype=experiment.dtype,
        exact_targets=experiment.normalise_targets != "none",
        offsets=offsets_for(experiment, centred=centred),
        thorough=thorough,
    )


def data_choices(experiment: Experiment, class_names: Sequence[str] = ()) -> ReadChoices:
    """Return how an experiment's data set is read; ``class_names`` are of `prepared_data`."""
    e = experiment
    exact = e.dataset_digest is not None and e.header is not None
    return ReadChoices(
        e.label,
        e.columns,
        e.header,
        e.task,
        class_names,
        e.transpose,
        e.row_weights,
        exact,
    )


def check_digest(experiment: Experiment, dataset: Dataset) -> None:
    """Raise `DataError` where an experiment was recorded with other data."""
    wanted = experiment.dataset_digest
    if wanted is not None and wanted != dataset.digest:
        what = f"the data set {experiment.dataset}"
        remedy = (
            "restore the data, name where they lie with --dataset, or remove dataset_digest from "
            "an experiment.toml to train anew on what is there"
        )
        if experiment.dataset == MEMORY:
            what = "what the arrays hold"
            remedy = "give the same ones, of the same dtype and in the same order"
        raise DataError(
            f"{what} is not what the experiment was recorded with: its digest was {wanted[:12]}, "
            f"now it is {dataset.digest[:12]}; {remedy}"
        )
