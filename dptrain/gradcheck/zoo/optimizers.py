"""Bugs between the reduced gradient and the new weights."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dptrain.coordinator.shared import SharedCluster
from dptrain.coordinator.star import StarCluster
from dptrain.exchange.engine import State
from dptrain.exchange.rank import Rank
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import WORLD, Around, own_rows, wrap
from dptrain.optim.links import Arrays, Moment
from dptrain.optim.rules import Adam, AdamW, Momentum, Rule
from dptrain.optim.schedules import Schedule
from dptrain.optim.updater import Updater

BOTH = ("shared", "star")


def clip_before_reduce(patches: Patches) -> None:
    """Every rank clips the mean gradient of its own rows, and nobody the reduced one."""

    def backward(original: Around, self: Rank, found: Any, ready: Any = None) -> None:
        original(self, found)
        clip = self.job.experiment.clip_norm
        roots = list(found.roots)
        if clip is not None and found.blocks:
            norm = float(np.linalg.norm(found.gradients[roots].sum(axis=0)))
            factor = min(1.0, clip * own_rows(found) / found.rows / norm) if norm else 1.0
            if factor < 1.0:
                found.gradients[roots] *= factor
        if ready is not None:
            for layer in reversed(range(len(self.job.network.tensors))):
                ready(layer)

    wrap(patches, Rank, "backward", backward)
    wrap(patches, Updater, "clip_factor", lambda *_: 1.0)


def norm_reduced_again(patches: Patches) -> None:
    """The norm of the reduced gradient is taken for a rank's share, and summed over the ranks."""

    def factor(original: Around, self: Updater, squares: Sequence[float]) -> float:
        return float(original(self, [WORLD * each for each in squares]))

    wrap(patches, Updater, "clip_factor", factor)


def _norms_summed(patches: Patches) -> None:
    def factor(original: Around, self: Updater, squares: Sequence[float]) -> float:
        norm = sum(math.sqrt(each) for each in squares)
        return float(original(self, [norm * norm]))

    wrap(patches, Updater, "clip_factor", factor)


def decay_multiplied(patches: Patches) -> None:
    """Every rank adds the weight decay to its own gradient, and the sum has all of them."""

    def decay(original: Around, self: Rule, rate: float) -> Any:
        return original(self, WORLD * rate)

    for kind in (Rule, AdamW):
        wrap(patches, kind, "weight_decay", decay)


def decay_on_biases(patches: Patches) -> None:
    """Weight decay applies to every tensor that is trained."""

    def links(original: Around, self: Updater, place: int) -> Any:
        decaying, self.decaying = self.decaying, [(place, place + 1)]
        found = original(self, place)
        self.decaying = decaying
        return found

    wrap(patches, Updater, "links", links)


def _adam_step(patches: Patches) -> None:
    def update(original: Around, self: Adam, arrays: Arrays, at: Moment) -> None:
        original(self, arrays, at._replace(step=at.step + 1))

    wrap(patches, Adam, "update", update)


def _epsilon_inside(patches: Patches) -> None:
    def update(__: Around, self: Adam, arrays: Arrays, at: Moment) -> None:
        w, g, (m, v), new_w, (new_m, new_v), _ = arrays
        np.copyto(new_m, self.beta1 * m + g)
        np.copyto(new_v, self.beta2 * v + g * g)
        mean = new_m * (1 - self.beta1) / (1 - self.beta1 ** (at.step + 1))
        square = new_v * (1 - self.beta2) / (1 - self.beta2 ** (at.step + 1))
        np.copyto(new_w, w - at.lr * mean / np.sqrt(square + self.epsilon))

    wrap(patches, Adam, "update", update)


def _lr_multiplied(patches: Patches) -> None:
    wrap(patches, Schedule, "__call__", lambda original, *args: WORLD * original(*args))


def schedule_shifted(patches: Patches) -> None:
    """The schedule is a step ahead."""
    wrap(patches, Schedule, "__call__", lambda original, self, step: original(self, step + 1))


def _state_lost(patches: Patches) -> None:
    def init(original: Around, self: Any, setting: Any, state: State) -> None:
        original(self, setting, State(state.parameters, [np.zeros_like(s) for s in state.slots]))

    wrap(patches, SharedCluster, "__init__", init)
    wrap(patches, StarCluster, "__init__", init)


def _step_lost(patches: Patches) -> None:
    begun: list[int] = []

    def update(original: Around, self: Updater, step: int, *others: Any) -> None:
        begun[:] = begun or [step]
        original(self, step - begun[0], *others)

    wrap(patches, Updater, "update", update)


def momentum_sign(patches: Patches) -> None:
    """``v ← g - μ v``."""

    def update(original: Around, self: Momentum, arrays: Arrays, at: Moment) -> None:
        opposite = [-v for v in arrays.slots]
        original(self, arrays._replace(slots=opposite), at)

    wrap(patches, Momentum, "update", update)


def _to_copy(patches: Patches) -> None:
    def update(original: Around, self: Updater, step: int, pieces: Any, *others: Any) -> None:
        honest = [(arrays.new_w, arrays.w.copy()) for arrays, _ in pieces]
        original(self, step, pieces, *others)
        for new, old in honest:
            np.copyto(new, old)

    wrap(patches, Updater, "update", update)


def _bug(name: str, kind: str, sentence: str, patch: Any, habitat: str) -> Bug:
    return Bug(name, kind, sentence, patch, place="all", habitat=habitat, exchange=BOTH)


BUGS = (
    _bug(
        "clip-before-reduce",
        "clip-before-reduce",
        "Every rank clips its own gradient, and the sum is not clipped.",
        clip_before_reduce,
        "momentum",
    ),
    _bug(
        "norm-reduced-again",
        "norm-reduced-again",
        "The squared norm of the reduced gradient is summed over the ranks once more.",
        norm_reduced_again,
        "momentum",
    ),
    _bug(
        "norms-summed",
        "norms-summed",
        "The norms of the parts are summed, not their squares (fastmoe #65).",
        _norms_summed,
        "momentum",
    ),
    _bug(
        "weight-decay-multiplied",
        "weight-decay-multiplied",
        "Every rank adds weight decay, and their gradients are summed.",
        decay_multiplied,
        "momentum",
    ),
    _bug(
        "decoupled-decay-multiplied",
        "weight-decay-multiplied",
        "The weight decay of AdamW is applied once for every rank.",
        decay_multiplied,
        "adamw",
    ),
    _bug(
        "decay-on-biases",
        "decay-on-biases",
        "Weight decay applies to biases too.",
        decay_on_biases,
        "momentum",
    ),
    _bug(
        "adam-step",
        "adam-step",
        "Adam counts its steps from 2.",
        _adam_step,
        "adam",
    ),
    _bug(
        "epsilon-inside",
        "epsilon-inside",
        "Adam adds epsilon before it takes the root.",
        _epsilon_inside,
        "adam",
    ),
    _bug(
        "lr-multiplied",
        "lr-multiplied",
        "A learning rate that is scaled by the ranks already is scaled once more.",
        _lr_multiplied,
        "momentum",
    ),
    _bug(
        "schedule-shifted",
        "schedule-shifted",
        "The learning rate is that of the next step.",
        schedule_shifted,
        "adam",
    ),
    Bug(
        "state-lost",
        "state-lost",
        "A resumed run begins with a new optimizer state.",
        _state_lost,
        place="coordinator",
        habitat="resume",
        exchange=BOTH,
    ),
    _bug(
        "step-lost",
        "state-lost",
        "A resumed run counts the steps of schedule and rule from 0.",
        _step_lost,
        "resume",
    ),
    _bug(
        "momentum-sign",
        "momentum-sign",
        "The velocity is taken off the gradient instead of added.",
        momentum_sign,
        "momentum",
    ),
    _bug(
        "update-to-copy",
        "update-to-copy",
        "The new weights are written to a copy, and the old ones stay.",
        _to_copy,
        "momentum",
    ),
)
