"""Settling an experiment with its data: the one way for everything that runs it."""

from pathlib import Path

from msgspec.structs import replace

from dptrain.data.dataset import Dataset
from dptrain.data.source import PACKAGED
from dptrain.experiment.balance import balanced
from dptrain.experiment.defaults import settle
from dptrain.experiment.job_data import check_digest
from dptrain.experiment.own_code import own_input_shape
from dptrain.experiment.schema import Experiment, Settled
from dptrain.own.origin import Origin


def settled_for(
    experiment: Experiment, dataset: Dataset, workers: int, origin: Origin | None
) -> Settled:
    """Return the experiment with every default that decides a number written down.

    Args:
        experiment: as the user gave it.
        dataset: its data set, opened.
        workers: of the execution; the default number of shards is at least this.
        origin: of the network of the user's own, if it is one.

    Raises:
        DataError: the experiment was recorded with other data.
        UsageError, ShapeError: settings that exclude each other or do not fit the data.
    """
    check_digest(experiment, dataset)
    settled = settle(
        balanced(experiment, dataset),
        workers,
        dataset.classes,
        len(dataset.train),
        dataset.digest,
        sum(dataset.target_shape),
        form=dataset.form,
        scale=dataset.scale,
    )
    shape = dataset.sample_shape
    if origin is not None:
        shape = own_input_shape(settled, shape)
        settled = replace(settled, model_digest=settled.model_digest or origin.digest)
    return replace(settled, input_shape=settled.input_shape or list(shape))


def from_anywhere(dataset: str) -> str:
    """Return a data set's name, or the absolute path of its file."""
    path = Path(dataset)
    named = dataset in PACKAGED or not path.exists()
    return dataset if named else str(path.resolve())
