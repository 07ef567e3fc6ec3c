"""Slips in the derivatives of the loss and of a penalty."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gradcheck.own.bugs.planting import bug, gradients, last
from tests.gradcheck.own.layers import Array
from tests.gradcheck.own.losses import BinaryCrossEntropy, Hinge, SoftmaxCrossEntropy, SquaredError


@bug
def mean_forgotten(network: Any, random: np.random.Generator) -> bool:
    return last(network, object, lambda dy, _: dy * len(dy))


@bug
def mean_taken_twice(network: Any, random: np.random.Generator) -> bool:
    return last(network, object, lambda dy, _: dy / len(dy))


@bug
def targets_not_subtracted(network: Any, random: np.random.Generator) -> bool:
    kinds = (SoftmaxCrossEntropy, BinaryCrossEntropy)
    return last(network, kinds, lambda dy, loss: loss.p / len(dy))


@bug
def sigmoid_counted_twice(network: Any, random: np.random.Generator) -> bool:
    return last(network, BinaryCrossEntropy, lambda dy, loss: dy * loss.p * (1 - loss.p))


@bug
def factor_of_two(network: Any, random: np.random.Generator) -> bool:
    return last(network, SquaredError, lambda dy, _: 2 * dy)


@bug
def margins_not_counted(network: Any, random: np.random.Generator) -> bool:
    def wrong(dy: Array, loss: Any) -> Array:
        any_over = loss.over.max(axis=1, keepdims=True)
        return (loss.over - any_over * loss.t) / len(dy)

    return last(network, Hinge, wrong)


@bug
def right_class_forgotten(network: Any, random: np.random.Generator) -> bool:
    return last(network, Hinge, lambda dy, loss: loss.over / len(dy))


def of_penalty(network: Any, change: Callable[[Any, Array], Array]) -> bool:
    penalty = getattr(network, "penalty", None)
    if penalty is None:
        return False
    key = penalty.names[0]
    return gradients(
        network,
        lambda net, found, _: found | {key: found[key] + change(penalty, net.params[key])},
    )


@bug
def penalty_missing(network: Any, random: np.random.Generator) -> bool:
    return of_penalty(network, lambda penalty, W: -penalty.slope(W))


@bug
def penalty_halved(network: Any, random: np.random.Generator) -> bool:
    return of_penalty(network, lambda penalty, W: -penalty.slope(W) / 2)


@bug
def penalty_doubled(network: Any, random: np.random.Generator) -> bool:
    return of_penalty(network, lambda penalty, W: penalty.slope(W))


@bug
def penalty_of_what_has_none(network: Any, random: np.random.Generator) -> bool:
    penalty: Any = getattr(network, "penalty", None)
    free = [each for each in network.params if penalty and each not in penalty.names]
    if not free:
        return False
    key = free[0]
    return gradients(
        network,
        lambda net, found, _: found | {key: found[key] + penalty.slope(net.params[key])},
    )
