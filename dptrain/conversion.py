"""Trained networks from and to the book's parameter files; of a network of one's own, to them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.data.dataset import Dataset
from dptrain.errors import DataError, UsageError
from dptrain.experiment.files import to_toml
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.schema import Experiment, Settled
from dptrain.experiment.setting_types import ActivationName
from dptrain.experiment.settling import from_anywhere, settled_for
from dptrain.nn.network import Network
from dptrain.own.network import OwnNetwork
from dptrain.trained import TrainedNetwork
from dptrain.weights.book import book_tensors, check_params, layer_sizes


def dense_experiment(
    params: Mapping[str, NDArray[Any]], activation: ActivationName, dataset: str
) -> Experiment:
    """Return an experiment whose network is the dense one that parameters tell of.

    Args:
        params: ``W1``, ``b1``, ``W2``, ``b2`` and so on.
        activation: between its layers; behind the last one stands none, as in the book.
        dataset: what it was trained on, such as ``"mnist"``.

    Raises:
        DataError: these are not parameters of a dense network.
    """
    model = "mlp:" + "-".join(map(str, layer_sizes(params)))
    return Experiment(model=model, activation=activation, dataset=dataset)


def network_from(
    params: Mapping[str, NDArray[Any]], described: Experiment
) -> tuple[TrainedNetwork, Checkpoint]:
    """Return a network with the book's parameters, and what a model file of it is made of.

    Args:
        params: ``W1``, ``b1``, ``W2``, ``b2`` and so on, in the book's form.
        described: with the layers of the network, and what it was trained on: that tells the shape
            of a sample, the names of the classes, and on what to evaluate. Grey values are divided
            by 255, as the book's ``normalize=True`` does. Numbers are float32 if all are.

    Raises:
        DataError: the parameters are not those of the network, or the data set cannot be read.
        UsageError: the network has parameters that the book has no names for.
        ShapeError: the network does not fit the data.
    """
    all_float32 = all(array.dtype == np.float32 for array in params.values())
    described = replace(described, init_from=None, dtype="float32" if all_float32 else "float64")
    opened = opened_data(described, prepared_data(described))
    job = Job(_settled(described, opened), opened)
    experiment, network = job.experiment, job.network
    assert isinstance(network, Network)
    tensors = book_tensors(network)
    check_params(params, tensors)
    flat = np.empty(network.size, experiment.dtype)
    views = network.views(flat)
    for each in tensors:
        views[each.own][...] = each.to_own(params[each.name], flat.dtype)
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
    """Return a network's parameters as the book's files have them, or those of its own code.

    Raises:
        UsageError: as `book_tensors`, or targets were standardised.
    """
    weights = trained.weights
    if isinstance(trained.network, OwnNetwork):
        return weights
    if trained.experiment.target_scale is not None:
        raise UsageError(
            f"the network puts out standardised targets ({trained.experiment.target_scale}), for "
            "which the book's files have no place; write an .npz or an .onnx, or train without "
            "--normalise-targets"
        )
    return {each.name: each.to_book(weights[each.own]) for each in book_tensors(trained.network)}


def _settled(experiment: Experiment, opened: Dataset) -> Settled:
    """Write down what goes with the data, and the training as it would be by default."""
    settled = settled_for(experiment, opened, 1, None)
    return replace(settled, dataset=from_anywhere(settled.dataset))
