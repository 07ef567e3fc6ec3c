"""Wrong losses: each changes what goes back into the outputs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.layers import Shards
from dptrain.gradcheck.reference.mutant import Mutant
from dptrain.gradcheck.reference.tape import Node
from dptrain.nn.cross_entropy import SoftmaxCrossEntropy
from dptrain.nn.loss import Loss

Array = NDArray[Any]


def loss_mutants(loss: Loss) -> Iterator[Mutant]:
    """Yield the bugs that a loss could have; each changes what goes back into the outputs."""
    if isinstance(loss, SoftmaxCrossEntropy):
        for axes, what in ((None, "all outputs of a shard"), ((0,), "the rows of a shard")):
            yield Mutant("softmax-axis", f"the softmax is over {what}", _softmax_over(axes))
        yield Mutant("softmax-axis", "the softmax is over the whole minibatch", _softmax_of_all)
        yield Mutant(
            "activation-derivative", "the labels are not subtracted", _softmax_over((1,), 0.0)
        )


def _softmax_over(axes: tuple[int, ...] | None, labelled: float = 1.0) -> Any:
    def change(y: Shards, batch: Any) -> Shards:
        found = []
        for outputs, t in zip(y, batch.targets, strict=True):
            power = np.exp(outputs.value - outputs.value.max())
            share = power / power.sum(axis=axes, keepdims=True)
            found.append(_gradient_is(outputs, share, t, sum(batch.sizes), labelled))
        return found

    return change


def _softmax_of_all(y: Shards, batch: Any) -> Shards:
    top = max(each.value.max() for each in y)
    total = sum(np.exp(each.value - top).sum() for each in y)
    return [
        _gradient_is(each, np.exp(each.value - top) / total, t, sum(batch.sizes), 1.0)
        for each, t in zip(y, batch.targets, strict=True)
    ]


def _gradient_is(outputs: Node, share: Array, t: Array, rows: int, labelled: float) -> Node:
    wrong = share.copy()
    wrong[np.arange(len(t)), t] -= labelled
    bounded = outputs.bounded
    return Node(bounded, (outputs,), lambda _: [bounded.exactly(wrong / rows)])
