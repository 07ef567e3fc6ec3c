"""Patches that change nothing where they are put: the checker must let them pass."""

from typing import Any, Literal

from dptrain.gradcheck.zoo.bug import Bug
from dptrain.gradcheck.zoo.layers import relu_at_zero
from dptrain.gradcheck.zoo.normalisation import without_scale
from dptrain.gradcheck.zoo.optimizers import (
    clip_before_reduce,
    decay_multiplied,
    decay_on_biases,
    norm_reduced_again,
    schedule_shifted,
)
from dptrain.gradcheck.zoo.shard_sums import mean_of_means, sum_in_arrival_order
from dptrain.gradcheck.zoo.wire import float32_wire

BOTH = ("shared", "star")


def _equivalent(
    bug: tuple[str, str],
    sentence: str,
    patch: Any,
    habitat: str,
    place: Literal["worker", "all"] = "worker",
    exchange: tuple[str, ...] = BOTH,
) -> Bug:
    return Bug(*bug, sentence, patch, place, habitat, exchange, equivalent=True)


BUGS = (
    _equivalent(
        ("mean-of-means-even", "mean-of-means"),
        "The mean of the ranks' means where all ranks have as many rows.",
        mean_of_means,
        "even",
    ),
    _equivalent(
        ("float32-wire-float32", "float32"),
        "float32 on the wire of a float32 run.",
        float32_wire,
        "float32",
    ),
    _equivalent(
        ("arrival-order-one-shard", "arrival-order"),
        "The order of a sum over a single shard.",
        sum_in_arrival_order,
        "one-row",
        exchange=("shared",),
    ),
    _equivalent(
        ("no-decay-multiplied", "weight-decay-multiplied"),
        "Weight decay of 0, once for every rank.",
        decay_multiplied,
        "no-decay",
        "all",
    ),
    _equivalent(
        ("no-decay-on-biases", "decay-on-biases"),
        "Weight decay of 0, on biases too.",
        decay_on_biases,
        "no-decay",
        "all",
    ),
    _equivalent(
        ("unclipped-before-reduce", "clip-before-reduce"),
        "Every rank clips its own gradient, but none is large enough.",
        clip_before_reduce,
        "unclipped",
        "all",
    ),
    _equivalent(
        ("unclipped-norm-reduced-again", "norm-reduced-again"),
        "The norm is too large, but not too large for the clipping.",
        norm_reduced_again,
        "unclipped",
        "all",
    ),
    _equivalent(
        ("constant-schedule-shifted", "schedule-shifted"),
        "The rate of the next step, where all steps have the same.",
        schedule_shifted,
        "unclipped",
        "all",
    ),
    _equivalent(
        ("no-dropout-scale", "dropout-scale"),
        "Dropout that leaves nothing out has nothing to scale.",
        without_scale,
        "no-dropout",
    ),
    _equivalent(
        ("relu-off-zero", "relu-mask"),
        ">= for > where no activation is exactly 0.",
        relu_at_zero,
        "relu",
        "all",
    ),
)
