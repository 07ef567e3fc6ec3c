"""The experiments in which bugs show: uneven and empty shards, tensors of very different size.

Every one is meant for 3 workers and 3 steps. Unless they say otherwise: 29 training rows in
minibatches of 13, 13 and 3 rows, in 5 shards of 3, 3, 3, 2, 2 rows, of which the ranks own 2, 2 and
1; in the third step the last rank has none. No matrix is square.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job

_UNEVEN: dict[str, Any] = {
    **{"dataset": "iris", "train_rows": 29, "batch_size": 13, "shards": 5, "steps": 3},
    **{"dtype": "float64", "optimizer": "sgd", "lr": 0.01, "seed": 3},
}


def _layer(name: str, **settings: Any) -> dict[str, Any]:
    return {"layer": name, **settings}


def _dense(units: int, std: float = 0.5) -> dict[str, Any]:
    return _layer("dense", units=units, init={"init": "normal", "std": std})


def _conv(filters: int, size: list[int], **settings: Any) -> dict[str, Any]:
    init = {"init": "normal", "std": 0.5}
    return _layer("conv2d", filters=filters, size=size, init=init, **settings)


def _drop(rate: float) -> list[dict[str, Any]]:
    drop = _layer("dropout", rate=rate)
    return [_dense(11), _TANH, drop, _dense(7), _SIGMOID, drop, _dense(3)]


_TANH, _SIGMOID, _RELU, _BATCHNORM = map(_layer, ("tanh", "sigmoid", "relu", "batchnorm"))
_SIZES = [_dense(11, 1e-4), _TANH, _dense(6, 30.0), _SIGMOID, _dense(3, 0.7)]
_RELUS = [_dense(9), _RELU, _dense(5), _RELU, _dense(3)]
_IMAGES = [
    *(_conv(3, [5, 3], stride=[4, 3], padding=1), _TANH, _conv(4, [2, 4], padding=[1, 0])),
    *(_layer("maxpool2d", size=2), _TANH, _layer("avgpool2d", size=[2, 1])),
    *(_layer("flatten"), _dense(10)),
]
_NORM = [_dense(7), _BATCHNORM, _TANH, _dense(5), _BATCHNORM, _SIGMOID, _dense(3)]
# over 8,192 parameters, so that every rank has a slice of them
_WIDE = [_dense(130), _TANH, _dense(70, 0.1), _SIGMOID, _dense(3)]
_MOMENTUM = {"optimizer": "momentum", "momentum": 0.9, "weight_decay": 0.05}
_ADAM = {
    **{"optimizer": "adam", "lr": 0.003, "epsilon": 1e-4, "weight_decay": 0.05, "clip_norm": 0.1},
    **{"schedule": "exponential", "decay_rate": 0.7, "decay_every": 2, "warmup": 2},
}

HABITATS: dict[str, dict[str, Any]] = {
    "plain": _UNEVEN | {"layers": _SIZES},
    "relu": _UNEVEN | {"layers": _RELUS},
    # with weights at which activations are exactly 0; see `weights`
    "relu-at-zero": _UNEVEN | {"layers": _RELUS},
    # MNIST's black borders make equal values in the windows of the pooling
    "images": _UNEVEN | {"dataset": "mnist", "layers": _IMAGES},
    "batchnorm": _UNEVEN | {"layers": _NORM},
    "dropout": _UNEVEN | {"layers": _drop(0.4)},
    "momentum": _UNEVEN | _MOMENTUM | {"layers": _WIDE, "clip_norm": 0.1},
    "adam": _UNEVEN | _ADAM | {"layers": _WIDE},
    "adamw": _UNEVEN | _ADAM | {"layers": _SIZES, "optimizer": "adamw"},
    # to be stopped and resumed after the first step; see `RESUMED`
    "resume": _UNEVEN | _ADAM | {"layers": _SIZES},
    # the inputs are as wide as the first hidden layer, so that one can be taken for the other
    "same-width": _UNEVEN | {"layers": [_dense(4), _TANH, _dense(3)]},
    "noise": _UNEVEN | {"layers": _SIZES, "augment_noise": 0.1},
    "numerical": _UNEVEN | {"gradient": "numerical", "layers": [_dense(5), _TANH, _dense(3)]},
    # its loss is no number: the run must end with an error
    "overflow": _UNEVEN | {"layers": [_dense(5, 1e200), _dense(3, 1e200)]},
    # for the equivalents
    "even": _UNEVEN | {"layers": _SIZES, "train_rows": 30, "batch_size": 15, "shards": 3},
    "one-row": _UNEVEN | {"layers": _SIZES, "batch_size": 1},
    "float32": _UNEVEN | {"layers": _SIZES, "dtype": "float32"},
    "no-dropout": _UNEVEN | {"layers": _drop(0.0)},
    "no-decay": _UNEVEN | {"layers": _WIDE, "optimizer": "momentum", "clip_norm": 0.1},
    "unclipped": _UNEVEN | _MOMENTUM | {"layers": _WIDE, "clip_norm": 1e9},
}

# Habitats whose run is stopped before this step, and carried on by other processes.
RESUMED = {"resume": 1}

# Habitats of the bugs between the reduced gradient and the new weights. They show in the experiment
# itself, but not where it is changed to record the gradient, as all others do.
AFTER_THE_REDUCE = ("momentum", "adam", "adamw", "resume", "no-decay", "unclipped")


def weights(name: str, job: Job) -> NDArray[Any]:
    """Return the weights ``(size,)`` that a habitat's run begins with: no bias is zero.

    At ``"relu-at-zero"`` two units of the first layer have weights and bias exactly zero.
    """
    flat = job.initial_parameters()
    random = np.random.default_rng(7)
    views = job.network.views(flat)
    for tensor in job.network.all_tensors():
        if tensor.trained and len(tensor.shape) == 1:
            noise = random.standard_normal(tensor.shape)
            kin = views.get(tensor.name.rpartition(".")[0] + ".W")
            scale = 0.3 if kin is None else 0.3 * min(1.0, float(np.abs(kin).mean()))
            views[tensor.name] += (scale * noise).astype(flat.dtype)
    if name == "relu-at-zero":
        views["dense1.W"][:, :2] = 0
        views["dense1.b"][:2] = 0
    return flat
