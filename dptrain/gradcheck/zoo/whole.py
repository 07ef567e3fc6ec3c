"""Bugs that no single gradient shows: rows read wrongly, evaluations, and what a run keeps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dptrain.coordinator import run
from dptrain.coordinator.trainer import Trainer
from dptrain.data import dataset
from dptrain.data.augmentation import Augmenter
from dptrain.data.dataset import Split
from dptrain.exchange import rank
from dptrain.exchange.engine import State
from dptrain.experiment import job
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import Around, Array, Patch, wrap
from dptrain.nn.passes import Pass


def _one_order(patches: Patches) -> None:
    def order(original: Around, seed: int, _: int, rows: int) -> Any:
        return original(seed, 0, rows)

    wrap(patches, job, "epoch_order", order)


def _noise_repeats(patches: Patches) -> None:
    def add(original: Around, self: Augmenter, _: int, *rest: Any) -> None:
        original(self, 0, *rest)

    wrap(patches, Augmenter, "_add_noise", add)


def _by_256(patches: Patches) -> None:
    def scale(original: Around, grey: Any, out: Any) -> None:
        original(grey, out)
        out *= 255 / 256

    wrap(patches, dataset, "scale_grey", scale)


def _targets_without_index(patches: Patches) -> None:
    def gather(original: Around, self: Split, order: Any, x: Any, t: Any, *rest: Any) -> None:
        original(self, order, x, t, *rest)
        self.targets.take(order, 0, t, "clip")

    wrap(patches, Split, "gather", gather)


def _dropout_in_evaluation(patches: Patches) -> None:
    def evaluation(original: Around, rows: int) -> Any:
        return original(rows)._replace(training=True)

    wrap(patches, rank, "evaluation", evaluation)


def _correct_of_half(patches: Patches) -> None:
    def correct(original: Around, self: Pass) -> list[int]:
        return [each // 2 for each in original(self)]

    wrap(patches, Pass, "correct", correct)


def _written(change: Callable[[State], list[Array]]) -> Patch:
    """Return what has checkpoints written with another optimizer state."""

    def patch(patches: Patches) -> None:
        def checkpoint(original: Around, self: Trainer, state: State) -> Any:
            return original(self, State(state.parameters, change(state)))

        wrap(patches, Trainer, "_checkpoint", checkpoint)

    return patch


def _rounded(state: State) -> list[Array]:
    return [each.astype(np.float32).astype(each.dtype) for each in state.slots]


def _moments_forgotten(patches: Patches) -> None:
    def saved(original: Around, *args: Any) -> State:
        found = original(*args)
        return State(found.parameters, [np.zeros_like(each) for each in found.slots])

    wrap(patches, run, "saved_state", saved)


def _biases_forgotten(patches: Patches) -> None:
    def saved(original: Around, own: Any, checkpoint: Any) -> State:
        tensors = {
            name: tensor if tensor.ndim > 1 else np.zeros_like(tensor)
            for name, tensor in checkpoint.tensors.items()
        }
        return original(own, replace(checkpoint, tensors=tensors))  # type: ignore[no-any-return]

    wrap(patches, run, "saved_state", saved)


BUGS = (
    Bug(
        "one-order",
        "same-order",
        "The rows come in the same order in every epoch, as without DistributedSampler.set_epoch.",
        _one_order,
        place="all",
    ),
    Bug(
        "noise-repeats",
        "augmentation-repeated",
        "The noise of augmentation is that of the first step in all of them.",
        _noise_repeats,
        place="all",
        habitat="noise",
    ),
    Bug(
        "grey-by-256",
        "inputs-scaled",
        "Grey values are divided by 256 instead of 255.",
        _by_256,
        place="all",
        habitat="images",
    ),
    Bug(
        "targets-without-index",
        "targets-of-other-rows",
        "A split's inputs are read through its index, and its targets are not.",
        _targets_without_index,
        place="all",
    ),
    Bug(
        "dropout-in-evaluation",
        "evaluation-dropout",
        "Evaluations drop units out, as where eval() was forgotten.",
        _dropout_in_evaluation,
        habitat="dropout",
    ),
    Bug(
        "correct-of-half",
        "accuracy-miscounted",
        "Only half of the correct rows are counted.",
        _correct_of_half,
    ),
    Bug(
        "moments-exchanged",
        "state-exchanged",
        "Adam's two moments are written in each other's place.",
        _written(lambda state: [*state.slots[::-1]]),
        place="coordinator",
        habitat="adam",
    ),
    Bug(
        "moments-rounded",
        "checkpoint-rounded",
        "Adam's moments are rounded to float32 in the checkpoints of a float64 run.",
        _written(_rounded),
        place="coordinator",
        habitat="adamw",
    ),
    Bug(
        "moments-forgotten",
        "state-lost",
        "A resumed run begins with moments of zero, although its checkpoint has them.",
        _moments_forgotten,
        place="coordinator",
        habitat="adamw",
    ),
    Bug(
        "biases-forgotten",
        "tensor-lost",
        "A resumed run begins with biases of zero.",
        _biases_forgotten,
        place="coordinator",
    ),
)
