"""What a new run begins with: weights drawn as their initializers say, and an empty optimizer.

Which weights are drawn is nobody's business, but their spread is published: it is estimated from
draws with many seeds. So are two constants of a run that no gradient shows: the rate of running
averages is compared where they move, and the variance that R² divides by here.
"""

import math
from collections.abc import Iterator, Sequence
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
from dptrain.nn.initializers import He, Initializer, Normal, Xavier, Zeros
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.network import Network, Tensor

Array = NDArray[Any]

EDGE = "beginning"
# Seeds of draws, if they need no more numbers in all: with 64 the spread of a tensor of only three
# elements is known to a third, and a factor √2 shows.
SEEDS, NUMBERS = 64, 2_000_000
# Standard errors that an estimate may be off: by chance once in 10⁸.
SIGMAS = 6.0
SPLITS = ("train", "validation", "test")
# What biases, and what batch and layer norm begin with (Ioffe and Szegedy 2015).
CONSTANTS = {"b": 0.0, "beta": 0.0, "mean": 0.0, "gamma": 1.0, "variance": 1.0}


def check_beginning(job: Job) -> Iterator[Comparison]:
    """Compare initial weights, the optimizer's initial state and R² with their definitions.

    Args:
        job: settled.
    """
    state = initial_state(job)[1]
    if state:
        yield from _empty(job, state)
    if isinstance(job.network, Network):
        yield from _drawn(job.network, job.experiment.seed)
        yield from _constant(job.network, job.experiment.seed)
    yield from _explained(job)


def _empty(job: Job, state: Sequence[Array]) -> list[Comparison]:
    pairs = {}
    for name, slot in zip(job.updater.rule.slots, state, strict=True):
        pairs[name] = (float(slot[np.abs(slot).argmax()]), 0.0)
    found = compare_numbers("optimizer's state of a new run = 0", EDGE, job.dtype.name, pairs)
    wrong = [f"{name} is {value:.6g}" for name, (value, _) in pairs.items() if value != 0]
    sentence = f"A new run's optimizer state is not 0: {', '.join(wrong)}."
    return told_of([found], diagnoses=(Diagnosis("initial-state", sentence, 0.0),))


def _drawn(network: Network, seed: int) -> Iterator[Comparison]:
    chosen = [(t, std) for t in network.all_tensors() if (std := _deviation(network, t))]
    if not chosen:
        return
    seeds = max(1, min(SEEDS, NUMBERS // network.size))
    drawn = np.array(
        [network.initial_parameters(seed + i, np.dtype(np.float64)) for i in range(seeds)]
    )
    pairs, room, wrong = {}, [], []
    for tensor, std in chosen:
        own = drawn[:, tensor.start : tensor.stop]
        scale = std or 1.0  # squares of large numbers would overflow
        found = scale * float(np.sqrt(np.mean((own / scale) ** 2)))
        pairs[tensor.name] = (found, std)
        room.append(SIGMAS * std / math.sqrt(2 * own.size))
        if not abs(found - std) <= room[-1]:
            wrong.append(f"{tensor.name} has {times(found / std)} the deviation of its initializer")
    where = f"{seeds} seeds"
    name = "deviation of initial weights = their initializer's"
    compared = compare_numbers(name, EDGE, where, pairs, room)
    why = Diagnosis("initial-weights", f"{'; '.join(wrong)}.", 0.0)
    yield from told_of([compared], diagnoses=(why,))


def _constant(network: Network, seed: int) -> Iterator[Comparison]:
    """Compare what begins at a number with it: by the name of a tensor in its layer."""
    flat = network.initial_parameters(seed, np.dtype(np.float64))
    pairs, wrong = {}, []
    for tensor in network.all_tensors():
        layer = layer_of(network.row, tensor)
        if not isinstance(layer, Dense | Conv2D | BatchNorm | LayerNorm):
            continue
        wanted = CONSTANTS.get(tensor.name.rpartition(".")[2])
        if wanted is None and not isinstance(getattr(layer, "init", None), Zeros):
            continue
        value = wanted or 0.0
        own = flat[tensor.start : tensor.stop]
        pairs[tensor.name] = (float(own[np.abs(own - value).argmax()]), value)
        if pairs[tensor.name][0] != value:
            wrong.append(f"{tensor.name} begins at {pairs[tensor.name][0]:.6g}, not at {value:g}")
    if not pairs:
        return
    compared = compare_numbers("initial biases, scales and averages = 0 or 1", EDGE, "", pairs)
    why = Diagnosis("initial-weights", f"{'; '.join(wrong)}.", 0.0)
    yield from told_of([compared], diagnoses=(why,))


def _deviation(network: Network, tensor: Tensor) -> float | None:
    """Return the standard deviation by the book, from the layer's description alone."""
    if not tensor.name.endswith(".W"):
        return None
    layer = layer_of(network.row, tensor)
    if isinstance(layer, Dense):
        return _by_the_book(layer.init, tensor.shape[0], tensor.shape[1])
    if isinstance(layer, Conv2D):  # (height, width, channels, filters)
        window, channels, filters = math.prod(tensor.shape[:2]), *tensor.shape[2:]
        return _by_the_book(layer.init, window * channels, window * filters)
    return None


def _by_the_book(init: Initializer | str, fan_in: int, fan_out: int) -> float | None:
    if isinstance(init, He):  # He et al. 2015, equation 10
        return math.sqrt(2 / fan_in)
    if isinstance(init, Xavier):  # Glorot and Bengio 2010, equation 12
        return math.sqrt(2 / (fan_in + fan_out))
    return init.std if isinstance(init, Normal) else None


def _explained(job: Job) -> Iterator[Comparison]:
    """Compare R² of every split with ``1 - error / variance``, the variance by NumPy."""
    if job.loss is None or job.dataset.classes:
        return
    error = job.loss.squared_error(1.0, sum(job.dataset.target_shape))
    pairs = {}
    for name in SPLITS:
        split = job.split(name)
        if error is None or not len(split):
            continue
        t = np.asarray(split.all_targets(), float)
        variance, found = float(t.var(axis=0).mean()), job.r2(name, 1.0)
        if variance and found is not None:
            pairs[name] = (found, 1 - error / variance)
    if pairs:
        room = [1e-9 * (1 + abs(wanted)) for _, wanted in pairs.values()]
        compared = compare_numbers("R² = 1 - error / variance", EDGE, "loss 1", pairs, room)
        wrong = ", ".join(each.tensor for each in compared.tensors if each.failed)
        sentence = f"R² of {wrong} is not 1 - error / variance of its own targets."
        yield from told_of([compared], diagnoses=(Diagnosis("r2", sentence, 0.0),))
