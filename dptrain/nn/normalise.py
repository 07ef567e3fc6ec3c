"""Normalisation of the inputs by statistics that are taken from the training rows once."""

from typing import Literal

import numpy as np

from dptrain.nn.calls import Call, call
from dptrain.nn.initializers import Ones, Zeros
from dptrain.nn.layer import Blocks, Layer, Operation, Parameter, Shape, Site

Method = Literal["standard", "minmax"]


class Normalise(Layer, frozen=True, tag="normalise"):
    """``y = (x - shift) / scale``, for each element of a sample; the first layer of a network.

    The tensors ``shift`` and ``scale``, shaped as a sample, belong to the network and are not
    trained: a run takes them from its training rows before it begins. ``standard``
    takes the mean and the (biased) standard deviation, so that every element of the training rows
    has mean 0 and variance 1; ``minmax`` the smallest value and the range, so that they lie from 0
    to 1. An element that never varies has the scale 1.
    """

    method: Method = "standard"

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:
        """Return ``shift`` and ``scale``, constants."""
        fans = (1, 1)
        return (
            Parameter("shift", input_shape, Zeros(), fans, decays=False, average=0.0),
            Parameter("scale", input_shape, Ones(), fans, decays=False, average=0.0),
        )

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return NormaliseOperation(site)


class NormaliseOperation(Operation):
    """Two calls forward, one backward."""

    def __init__(self, site: Site) -> None:
        self.outputs = site.inputs if site.overwrites else site.like(site.inputs)
        shift, self.scale = site.weights
        self.forward_calls = [
            each
            for x, y in zip(site.inputs, self.outputs, strict=True)
            for each in (call(np.subtract, x, shift, y), call(np.divide, y, self.scale, y))
        ]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """``dx = dy / scale``; constants need no gradients."""
        return [call(np.divide, dy, self.scale, dy) for dy in gradients], gradients
