"""What a new run begins with: weights drawn as their initializers say, and an empty optimizer.

Which weights are drawn is nobody's business, but their spread is published: it is estimated from
draws with many seeds. So are two constants of a run that no gradient shows: the rate of running
averages is compared where they move, and the variance that R² divides by here.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.rank import initial_state
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare_numbers, told_of
from dptrain.gradcheck.diagnosis import Diagnosis, times
from dptrain.gradcheck.reference.places import layer_of
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense
from dptrain.nn.initializers import He, Normal, Xavier, Zeros
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.network import Network, Tensor

Array = NDArray[Any]
Pairs = dict[str, tuple[float, float]]

# Seeds of draws, if they need no more numbers in all: with 64 the spread of a tensor of only three
# elements is known to a third, and a factor √2 shows.
SEEDS, NUMBERS = 64, 2_000_000
# Standard errors that an estimate may be off: by chance once in 10⁸.
SIGMAS = 6.0
# What biases, and what batch and layer norm begin with (Ioffe and Szegedy 2015).
CONSTANTS = {"b": 0.0, "beta": 0.0, "mean": 0.0, "gamma": 1.0, "variance": 1.0}


def check_beginning(job: Job) -> Iterator[Comparison]:
    """Compare initial weights, the optimizer's initial state and R² with their definitions.

    Args:
        job: settled.
    """
    state = dict(zip(job.updater.rule.slots, initial_state(job)[1], strict=True))
    empty = {name: (float(slot[np.abs(slot).argmax()]), 0.0) for name, slot in state.items()}
    name, sentence = "optimizer's state of a new run = 0", "A new run's optimizer state is not 0: "
    yield from _compared(name, job.dtype.name, empty, [0.0], "initial-state", sentence)
    if isinstance(job.network, Network):
        yield from _drawn(job.network, job.experiment.seed)
        yield from _constant(job.network, job.experiment.seed)
    yield from _explained(job)


def _compared(
    name: str, where: str, pairs: Pairs, room: list[float], kind: str, sentence: str
) -> Iterator[Comparison]:
    """Compare numbers, if there are any; what is wrong is listed behind a sentence's beginning."""
    if pairs:
        compared = compare_numbers(
            name, "beginning", where, pairs, np.resize(room, len(pairs)).tolist()
        )
        failed = {each.tensor for each in compared.tensors if each.failed}
        wrong = [
            f"{each} is {found:.6g} instead of {wanted:.6g}"
            + (f", {times(found / wanted)} that" if wanted else "")
            for each, (found, wanted) in pairs.items()
            if each in failed
        ]
        why = Diagnosis(kind, f"{sentence}{'; '.join(wrong)}.", 0.0)
        yield from told_of([compared], diagnoses=(why,))


def _drawn(network: Network, seed: int) -> Iterator[Comparison]:
    chosen = [(t, std) for t in network.all_tensors() if (std := _deviation(network, t))]
    seeds = max(1, min(SEEDS, NUMBERS // network.size)) if chosen else 0
    draws = [network.initial_parameters(seed + i, np.dtype(np.float64)) for i in range(seeds)]
    pairs, room = {}, []
    for tensor, std in chosen:
        own = np.array([each[tensor.start : tensor.stop] for each in draws])
        # divided, since squares of large numbers would overflow
        pairs[tensor.name] = std * float(np.sqrt(np.mean((own / std) ** 2))), std
        room.append(SIGMAS * std / math.sqrt(2 * own.size))
    name = "deviation of initial weights = their initializer's"
    sentence = "The deviation of initial weights is not their initializer's: "
    yield from _compared(name, f"{seeds} seeds", pairs, room, "initial-weights", sentence)


def _deviation(network: Network, tensor: Tensor) -> float | None:
    """Return the standard deviation by the book, from the layer's description alone."""
    layer = layer_of(network.row, tensor)
    if not isinstance(layer, Dense | Conv2D) or not tensor.name.endswith(".W"):
        return None
    *window, channels, filters = tensor.shape  # of a convolution (height, width, …)
    fan_in, fan_out = math.prod(window) * channels, math.prod(window) * filters
    match layer.init:
        case He():  # He et al. 2015, equation 10
            return math.sqrt(2 / fan_in)
        case Xavier():  # Glorot and Bengio 2010, equation 12
            return math.sqrt(2 / (fan_in + fan_out))
        case Normal(std=std):
            return std
    return None


def _constant(network: Network, seed: int) -> Iterator[Comparison]:
    """Compare what begins at a number with it: by the name of a tensor in its layer."""
    flat, pairs = network.initial_parameters(seed, np.dtype(np.float64)), {}
    for tensor in network.all_tensors():
        layer = layer_of(network.row, tensor)
        wanted = CONSTANTS.get(tensor.name.rpartition(".")[2])
        if wanted is None and isinstance(getattr(layer, "init", None), Zeros):
            wanted = 0.0
        if wanted is None or not isinstance(layer, Dense | Conv2D | BatchNorm | LayerNorm):
            continue
        own = flat[tensor.start : tensor.stop]
        pairs[tensor.name] = float(own[np.abs(own - wanted).argmax()]), wanted
    name = "initial biases, scales and averages = 0 or 1"
    sentence = "What should begin at a number begins elsewhere: "
    yield from _compared(name, "", pairs, [0.0], "initial-weights", sentence)


def _explained(job: Job) -> Iterator[Comparison]:
    """Compare R² of every split with ``1 - error / variance``, the variance by NumPy."""
    if job.loss is None or job.dataset.classes:
        return
    error = job.loss.squared_error(1.0, sum(job.dataset.target_shape))
    pairs = {}
    for name in ("train", "validation", "test"):
        split = job.split(name)
        if error is None or not len(split):
            continue
        t = np.asarray(split.all_targets(), float)
        variance, found = float(t.var(axis=0).mean()), job.r2(name, 1.0)
        if variance and found is not None:
            pairs[name] = (found, 1 - error / variance)
    room = [1e-9 * (1 + abs(wanted)) for _, wanted in pairs.values()]
    sentence = "R² is not 1 - error / variance of the targets of its own split: "
    yield from _compared("R² = 1 - error / variance", "loss 1", pairs, room, "r2", sentence)
