"""The steps of an update, as links of a chain: each does one thing to a chunk of the gradient.

A chain ends with a rule, or is a single `Move`; `dptrain.optim.updater` builds it.
Every operation is elementwise and correctly rounded, so the result does not depend on how the
flat vector is cut.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Array = NDArray[Any]


class Arrays(NamedTuple):
    """What an update reads and writes: flat arrays of one length and dtype.

    They are any part of the flat vector; the new arrays may be the old ones.

    Attributes:
        w: the parameters.
        g: their gradient; overwritten.
        slots: the rule's state.
        new_w: where the new parameters go.
        new_slots: where the new state goes.
        scratch: one more array.
    """

    w: Array
    g: Array
    slots: list[Array]
    new_w: Array
    new_slots: list[Array]
    scratch: Array


class UpdateMoment(NamedTuple):
    """The step of an update, and what depends on it.

    Attributes:
        step: counted from 0.
        lr: the learning rate of the step.
        clip: factor that clips the gradient by its global norm.
    """

    step: int
    lr: float
    clip: float = 1.0


class Link(Struct, frozen=True):
    """One operation of an update: elementwise, and without allocating an array."""

    @abstractmethod
    def update(self, arrays: Arrays, at: UpdateMoment) -> None:
        """Change the gradient in place, or write new parameters."""

    def behind(self, arrays: Arrays) -> Arrays:
        """Return what the next link reads and writes."""
        return arrays


class Clip(Link, frozen=True):
    """``g ← c g`` with the factor ``c`` of the step."""

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:
        """Scale the gradient if its norm is too large."""
        if at.clip != 1.0:
            np.multiply(arrays.g, at.clip, out=arrays.g)


class L1(Link, frozen=True):
    """``g ← g + rate sign(w)``: the gradient of ``rate Σ |w|``, 0 where ``w`` is 0."""

    rate: float

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: ARG002 - one signature for all
        """Add the penalty's gradient."""
        np.sign(arrays.w, out=arrays.scratch)
        np.multiply(arrays.scratch, self.rate, out=arrays.scratch)
        np.add(arrays.g, arrays.scratch, out=arrays.g)


class Decay(Link, frozen=True):
    """``g ← g + rate w``: the gradient of ``rate/2 Σ w²``."""

    rate: float

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: ARG002 - one signature for all
        """Add the decay to the gradient."""
        np.multiply(arrays.w, self.rate, out=arrays.scratch)
        np.add(arrays.g, arrays.scratch, out=arrays.g)


class DecoupledDecay(Link, frozen=True):
    """``w ← w (1 - lr rate)``, not through the gradient (Loshchilov and Hutter 2019)."""

    rate: float

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:
        """Write the decayed weights to ``new_w``."""
        np.multiply(arrays.w, 1 - at.lr * self.rate, out=arrays.new_w)

    def behind(self, arrays: Arrays) -> Arrays:
        """Let the rule start from the decayed weights."""
        return arrays._replace(w=arrays.new_w)


class Move(Link, frozen=True):
    """``w ← w + rate (g - w)``: for tensors that are not trained; ``g`` holds their new value.

    The state of the rule is not touched.
    """

    rate: float

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: ARG002 - one signature for all
        """Move; frozen tensors have a rate of 0 and are copied."""
        if self.rate == 1:
            np.copyto(arrays.new_w, arrays.g)  # to the last bit
        elif self.rate:
            np.subtract(arrays.g, arrays.w, out=arrays.g)
            np.multiply(arrays.g, self.rate, out=arrays.g)
            np.add(arrays.w, arrays.g, out=arrays.new_w)
        elif arrays.new_w is not arrays.w:
            np.copyto(arrays.new_w, arrays.w)
