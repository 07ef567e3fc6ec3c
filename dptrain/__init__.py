"""Data-parallel training on plain CPUs, with the same bits for any number of workers.

The names below are imported when they are first used: a worker process begins by importing this
file, and needs few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dptrain.api import Result, fit, train
    from dptrain.experiment.schema import Execution, Experiment
    from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
    from dptrain.nn.dense import Dense, Flatten
    from dptrain.nn.network import Network
    from dptrain.nn.normalise import Normalise
    from dptrain.trained import TrainedNetwork, load_run

__all__ = [
    "Dense",
    "Execution",
    "Experiment",
    "Flatten",
    "Identity",
    "Network",
    "Normalise",
    "ReLU",
    "Result",
    "Sigmoid",
    "Tanh",
    "TrainedNetwork",
    "fit",
    "load_run",
    "train",
]

_HOMES = {
    "Dense": "nn.dense",
    "Execution": "experiment.schema",
    "Experiment": "experiment.schema",
    "Flatten": "nn.dense",
    "Identity": "nn.activations",
    "Network": "nn.network",
    "Normalise": "nn.normalise",
    "ReLU": "nn.activations",
    "Result": "api",
    "Sigmoid": "nn.activations",
    "Tanh": "nn.activations",
    "TrainedNetwork": "trained",
    "fit": "api",
    "load_run": "trained",
    "train": "api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"dptrain.{_HOMES[name]}"), name)
