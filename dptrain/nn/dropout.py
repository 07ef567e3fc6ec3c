"""Dropout: elements set to 0 at random, anew in every step."""

from typing import Annotated

import numpy as np
from msgspec import Meta

from dptrain.arithmetic.randomness import Purpose, SteppedUniform
from dptrain.errors import UsageError
from dptrain.nn.calls import Call, call
from dptrain.nn.context import Context
from dptrain.nn.layer import Array, Blocks, Layer, Operation, Site


class Dropout(Layer, frozen=True, tag="dropout"):
    """In training each element is 0 with probability ``rate``, and otherwise ``x / (1 - rate)``.

    Outside of training ``y = x``: the factor keeps the expected value the same (Srivastava et al.
    2014, "Dropout", section 10, with the factor in training). Which elements are 0 depends
    on the experiment's seed, the step, the layer and the shard alone.
    """

    rate: Annotated[float, Meta(ge=0, lt=1)] = 0.5

    def __post_init__(self) -> None:
        """Refuse what is not a probability."""
        if not 0 <= self.rate < 1:
            raise UsageError(f"a dropout rate must be at least 0 and less than 1, not {self.rate}")

    def bind(self, site: Site) -> Operation:
        """Return the masked product of a training pass, or what passes everything on."""
        if not site.context.training or not self.rate:
            return Nothing(site)
        return DropoutOperation(site, self.rate)


class Nothing(Operation):
    """Passes its input on, and its gradient back."""

    def __init__(self, site: Site) -> None:
        self.outputs = site.inputs

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Return the gradients as they are."""
        return [], gradients


class DropoutOperation(Operation):
    """Draws one mask for each shard, the same for both passes and for both dtypes."""

    def __init__(self, site: Site, rate: float) -> None:
        self.site = site
        self.scale = 1 / (1 - rate)
        self.outputs = site.inputs if site.overwrites else site.like(site.inputs)
        self.masks = site.like(site.inputs, np.bool_)
        self.forward_calls = []
        context = site.context
        for i, (x, y) in enumerate(zip(site.inputs, self.outputs, strict=True)):
            uniform = site.workspace.empty(x.shape, np.float32)
            first = context.blocks[i].first
            self.forward_calls += [
                *(_draw(context, site.place, first + j, each) for j, each in enumerate(uniform)),
                call(np.greater_equal, uniform, np.float32(rate), self.masks[i]),
                *self._masked(x, y, self.masks[i]),
            ]

    def _masked(self, x: Array, y: Array, mask: Array) -> list[Call]:
        scale = x.dtype.type(self.scale)
        return [call(np.multiply, x, mask, y), call(np.multiply, y, scale, y)]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Leave out what was left out."""
        blocks = zip(gradients, gradients, self.masks, strict=True)
        return [each for block in blocks for each in self._masked(*block)], gradients


def _draw(context: Context, place: tuple[int, ...], shard: int, out: Array) -> Call:
    stream = SteppedUniform(context.seed, Purpose.DROPOUT, *place, shard)
    moment = context.moment
    return lambda: stream.fill(moment.step, out)
