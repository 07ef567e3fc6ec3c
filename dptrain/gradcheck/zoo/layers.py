"""Bugs in the backward passes of dense layers and activation functions, and in the loss."""

from typing import Any

import numpy as np

from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import Around, Array, wrap
from dptrain.nn.activations import ReLUOperation, SigmoidOperation, TanhOperation
from dptrain.nn.calls import Call, call
from dptrain.nn.cross_entropy import BoundSoftmaxCrossEntropy
from dptrain.nn.dense import DenseOperation
from dptrain.nn.layer import Blocks

BOTH = ("shared", "star")


def _loss_gradient(patches: Patches, alter: Any) -> None:
    """Have ``alter(gradient, rows)`` change every block of the loss's gradient in place."""

    def backward(original: Around, self: BoundSoftmaxCrossEntropy, rows: int) -> Blocks:
        found: Blocks = original(self, rows)
        for gradient in found:
            alter(gradient, rows)
        return found

    wrap(patches, BoundSoftmaxCrossEntropy, "backward", backward)


def _sign(patches: Patches) -> None:
    _loss_gradient(patches, lambda g, _: np.negative(g, out=g))


def _missing_mean(patches: Patches) -> None:
    _loss_gradient(patches, lambda g, rows: np.multiply(g, rows, out=g))


def _mean_twice(patches: Patches) -> None:
    _loss_gradient(patches, lambda g, rows: np.divide(g, rows, out=g))


def _softmax_axis(patches: Patches) -> None:
    def block_calls(original: Around, self: BoundSoftmaxCrossEntropy, i: int) -> list[Call]:
        first, subtract, find, take, exp, total, *others = original(self, i)
        whole = self.totals[i]

        def over_all(reduce: Any) -> Call:
            return call(_over_rows, reduce, whole)

        return [
            *(first, over_all(np.max), subtract, find, take, exp),
            *(total, over_all(np.sum), *others),
        ]

    wrap(patches, BoundSoftmaxCrossEntropy, "block_calls", block_calls)


def _over_rows(reduce: Any, totals: Array) -> None:
    """Have all rows of a shard ``(shards, rows, 1)`` know one number."""
    totals[...] = reduce(totals, axis=1, keepdims=True)


def _bias(patches: Patches, found: Any) -> None:
    """Have ``found(dy, db)`` write the bias gradients ``(shards, units)`` of every dense layer."""

    def backward(original: Around, self: DenseOperation, gradients: Blocks) -> Any:
        calls, inputs = original(self, gradients)
        pairs = zip(gradients, self.bias_gradients, strict=True)
        return [*(call(found, dy, db) for dy, db in pairs), *_without(calls)], inputs

    def _without(calls: list[Call]) -> list[Call]:
        return [each for each in calls if getattr(each, "func", None) != np.add.reduce]

    wrap(patches, DenseOperation, "backward_calls", backward)


def _bias_missing(patches: Patches) -> None:
    _bias(patches, lambda _, db: db.fill(0))


def _bias_axis(patches: Patches) -> None:
    def over_units_too(dy: Array, db: Array) -> None:
        db[...] = dy.sum(axis=(1, 2))[:, np.newaxis]

    _bias(patches, over_units_too)


def _no_slope(patches: Patches) -> None:
    def slope_calls(_: Around, *__: Any) -> list[Call]:
        return []

    wrap(patches, SigmoidOperation, "slope_calls", slope_calls)


def _slope_of_output(patches: Patches) -> None:
    def slope_calls(
        original: Around, self: TanhOperation, dy: Array, y: Array, scratch: Array
    ) -> list[Call]:
        argument = self.site.like([y])[0]
        return [call(np.tanh, y, argument), *original(self, dy, argument, scratch)]

    wrap(patches, TanhOperation, "slope_calls", slope_calls)


def relu_at_zero(patches: Patches) -> None:
    """The gradient passes where the input is 0: the mask is taken before the maximum."""

    def calls(original: Around, self: ReLUOperation, x: Array, y: Array) -> list[Call]:
        mask = next(m for m, out in zip(self.scratch, self.outputs, strict=True) if out is y)
        return [call(np.greater_equal, x, 0.0, mask), *original(self, x, y)]

    def slope_calls(_: Around, __: Any, dy: Array, ___: Array, scratch: Array) -> list[Call]:
        return [call(np.multiply, dy, scratch, dy)]

    wrap(patches, ReLUOperation, "calls", calls)
    wrap(patches, ReLUOperation, "slope_calls", slope_calls)


def _relu_of_output(patches: Patches) -> None:
    def slope_calls(_: Around, __: Any, dy: Array, y: Array, scratch: Array) -> list[Call]:
        return [call(np.greater_equal, y, 0.0, scratch), call(np.multiply, dy, scratch, dy)]

    wrap(patches, ReLUOperation, "slope_calls", slope_calls)


def _layer(name: str, kind: str, sentence: str, patch: Any, habitat: str = "plain") -> Bug:
    return Bug(name, kind, sentence, patch, place="all", habitat=habitat, exchange=BOTH)


BUGS = (
    _layer("loss-sign", "sign", "The gradient is that of minus the loss.", _sign),
    _layer(
        "softmax-without-mean",
        "missing-mean",
        "The gradient of the softmax is not divided by the rows.",
        _missing_mean,
    ),
    _layer(
        "mean-twice",
        "divided-twice",
        "The gradient of the loss is divided by the rows a second time (the study notes).",
        _mean_twice,
    ),
    _layer(
        "softmax-over-batch",
        "softmax-axis",
        "Softmax with one maximum and one sum for all rows (readers of the book the notes are on).",
        _softmax_axis,
    ),
    _layer("bias-missing", "bias-missing", "Biases have no gradient.", _bias_missing),
    _layer(
        "bias-over-units",
        "bias-axis",
        "The gradient of a bias is summed over the units too, and broadcast.",
        _bias_axis,
    ),
    _layer(
        "sigmoid-slope-missing",
        "activation-derivative",
        "The gradient passes through the sigmoid as it is.",
        _no_slope,
    ),
    _layer(
        "tanh-slope-of-output",
        "activation-derivative",
        "The slope of tanh is taken at its value instead of its argument.",
        _slope_of_output,
    ),
    _layer(
        "relu-at-zero",
        "relu-mask",
        "ReLU's mask is >= where it should be >: wrong at the kink only.",
        relu_at_zero,
        "relu-at-zero",
    ),
    _layer(
        "relu-mask-of-output",
        "relu-mask",
        "ReLU's mask is output >= 0, which is true everywhere.",
        _relu_of_output,
        "relu",
    ),
)
