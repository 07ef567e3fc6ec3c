"""Data-parallel training on plain CPUs, with the same bits for any number of workers.

The names below are imported when they are first used: a worker process begins by importing this
file, and needs few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dptrain.api import fit, train
    from dptrain.experiment.execution import Execution
    from dptrain.experiment.schema import Experiment
    from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
    from dptrain.nn.batchnorm import BatchNorm
    from dptrain.nn.composite import Chain, Residual
    from dptrain.nn.convolution import Conv2D
    from dptrain.nn.dense import Dense, Flatten
    from dptrain.nn.dropout import Dropout
    from dptrain.nn.gelu import GELU
    from dptrain.nn.layernorm import LayerNorm
    from dptrain.nn.network import Network
    from dptrain.nn.normalise import Normalise
    from dptrain.nn.pooling import AvgPool2D, MaxPool2D
    from dptrain.nn.rectifiers import LeakyReLU, Softplus
    from dptrain.nn.silu import SiLU
    from dptrain.result import Result
    from dptrain.trained import TrainedNetwork, load_run
    from dptrain.weights.params import load_params, save_params

__all__ = [
    "GELU",
    "AvgPool2D",
    "BatchNorm",
    "Chain",
    "Conv2D",
    "Dense",
    "Dropout",
    "Execution",
    "Experiment",
    "Flatten",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2D",
    "Network",
    "Normalise",
    "ReLU",
    "Residual",
    "Result",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "TrainedNetwork",
    "fit",
    "load_params",
    "load_run",
    "save_params",
    "train",
]

_HOMES = {
    "AvgPool2D": "nn.pooling",
    "BatchNorm": "nn.batchnorm",
    "Chain": "nn.composite",
    "Conv2D": "nn.convolution",
    "Dense": "nn.dense",
    "Dropout": "nn.dropout",
    "Execution": "experiment.execution",
    "Experiment": "experiment.schema",
    "Flatten": "nn.dense",
    "GELU": "nn.gelu",
    "Identity": "nn.activations",
    "LayerNorm": "nn.layernorm",
    "LeakyReLU": "nn.rectifiers",
    "MaxPool2D": "nn.pooling",
    "Network": "nn.network",
    "Normalise": "nn.normalise",
    "ReLU": "nn.activations",
    "Residual": "nn.composite",
    "Result": "result",
    "SiLU": "nn.silu",
    "Sigmoid": "nn.activations",
    "Softplus": "nn.rectifiers",
    "Tanh": "nn.activations",
    "TrainedNetwork": "trained",
    "fit": "api",
    "load_params": "weights.params",
    "load_run": "trained",
    "save_params": "weights.params",
    "train": "api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"dptrain.{_HOMES[name]}"), name)
