"""Trained networks from and to the book's parameter files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.data.dataset import Dataset, open_dataset
from dptrain.errors import DataError
from dptrain.experiment.files import to_toml
from dptrain.experiment.job import Job, prepared_data
from dptrain.experiment.schema import ActivationName, Experiment
from dptrain.experiment.settle import settle
from dptrain.nn.network import Network
from dptrain.trained import TrainedNetwork
from dptrain.weights.book import book_names, layer_sizes


def network_from(
    params: Mapping[str, NDArray[Any]], activation: ActivationName, dataset: str
) -> tuple[TrainedNetwork, Checkpoint]:
    """Return a network with the book's parameters, and what a model file of it is made of.

    Args:
        params: ``W1``, ``b1``, ``W2``, ``b2`` and so on, of a dense network.
        activation: between its layers; behind the last one stands none, as in the book.
        dataset: what it was trained on, such as ``"mnist"``: it tells the shape of a sample, the
            names of the classes, and on what to evaluate. Grey values are divided by 255, as the
            book's ``normalize=True`` does.

    Raises:
        DataError: these are no parameters of a dense network, or the data set cannot be read.
        ShapeError: the network does not fit the data.
    """
    sizes = layer_sizes(params)
    all_float32 = all(array.dtype == np.float32 for array in params.values())
    described = Experiment(
        model="mlp:" + "-".join(map(str, sizes)),
        activation=activation,
        dataset=dataset,
        dtype="float32" if all_float32 else "float64",
    )
    opened = open_dataset(prepared_data(described), validation=0, test=described.test, seed=0)
    experiment = _settled(described, opened)
    network = Job(experiment, opened).network
    assert isinstance(network, Network)
    flat = np.empty(network.size, experiment.dtype)
    views = network.views(flat)
    for name, own in book_names(network).items():
        views[own][...] = params[name]
    if not np.isfinite(flat).all():
        raise DataError("the parameters hold values that are not finite")
    saved = Checkpoint(
        tensors=views,
        optimizer={},
        step=0,
        epoch=0,
        experiment=to_toml(experiment),
        digest=digest(flat),
        progress={"class_names": "\n".join(opened.class_names)},
    )
    return TrainedNetwork(network, flat, experiment, opened.class_names), saved


def book_params(trained: TrainedNetwork) -> dict[str, NDArray[Any]]:
    """Return a network's parameters under the book's names; raises `UsageError` as `book_names`."""
    names = book_names(trained.layered("parameters as the book names them"))
    return {name: trained.weights[own] for name, own in names.items()}


def _settled(experiment: Experiment, opened: Dataset) -> Experiment:
    """Write down what goes with the data, and the training as it would be by default."""
    settled = settle(experiment, 1, opened.classes, len(opened.train), opened.digest)
    path = Path(settled.dataset)
    return replace(
        settled,
        dataset=str(path.resolve()) if path.exists() else settled.dataset,
        input_shape=list(opened.sample_shape),
    )
