"""Update rules: each a frozen description with one function over arrays.

Every operation is elementwise and correctly rounded, so it does not matter how the flat vector is
cut up. The gradient is used up: a rule may compute in its place, which saves a pass through the
cache.
"""

import math
from abc import abstractmethod
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Array = NDArray[Any]
Rate = Annotated[float, Meta(ge=0, lt=1)]
Epsilon = Annotated[float, Meta(gt=0)]


class Arrays(NamedTuple):
    """What an update reads and writes: flat arrays of one length and dtype.

    They are any part of the flat vector; the new arrays may be the old ones.

    Attributes:
        w: the parameters.
        g: their gradient; used up.
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


class Rule(Struct, frozen=True, tag_field="optimizer", forbid_unknown_fields=True):
    """The description of an update rule."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays, each as long as the parameters and zero at the start."""
        return ()

    @abstractmethod
    def update(self, arrays: Arrays, lr: float, step: int) -> None:
        """Write the updated parameters and state.

        Args:
            arrays: what is read and written.
            lr: the learning rate of the step.
            step: counted from 0.
        """


class SGD(Rule, frozen=True, tag="sgd"):
    """``w ← w - lr g``."""

    # D102: documented in the base class. ARG002: one signature for all rules. So also below.
    def update(self, arrays: Arrays, lr: float, step: int) -> None:  # noqa: D102, ARG002
        w, g, _, new_w, _, _ = arrays
        np.multiply(g, lr, out=g)
        np.subtract(w, g, out=new_w)


class Momentum(Rule, frozen=True, tag="momentum"):
    """``v ← μ v + g``; ``w ← w - lr v`` (Polyak 1964).

    The book writes ``v ← μ v - lr g``; ``w ← w + v``: the same while the learning rate is constant.
    """

    momentum: Rate = 0.9

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity."""
        return ("velocity",)

    def update(self, arrays: Arrays, lr: float, step: int) -> None:  # noqa: D102, ARG002
        w, g, (v,), new_w, (new_v,), _ = arrays
        np.multiply(v, self.momentum, out=new_v)
        np.add(new_v, g, out=new_v)
        np.multiply(new_v, lr, out=g)
        np.subtract(w, g, out=new_w)


class Nesterov(Rule, frozen=True, tag="nesterov"):
    """``v ← μ v + g``; ``w ← w - lr (g + μ v)`` (Sutskever et al. 2013, in Bengio's form)."""

    momentum: Rate = 0.9

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity."""
        return ("velocity",)

    def update(self, arrays: Arrays, lr: float, step: int) -> None:  # noqa: D102, ARG002
        w, g, (v,), new_w, (new_v,), scratch = arrays
        np.multiply(v, self.momentum, out=new_v)
        np.add(new_v, g, out=new_v)
        np.multiply(new_v, self.momentum, out=scratch)
        np.add(scratch, g, out=scratch)
        np.multiply(scratch, lr, out=scratch)
        np.subtract(w, scratch, out=new_w)


class AdaGrad(Rule, frozen=True, tag="adagrad"):
    """``h ← h + g²``; ``w ← w - lr g / (√h + ε)`` (Duchi et al. 2011)."""

    epsilon: Epsilon = 1e-7

    @property
    def slots(self) -> tuple[str, ...]:
        """The sum of squared gradients."""
        return ("squares",)

    def update(self, arrays: Arrays, lr: float, step: int) -> None:  # noqa: D102, ARG002
        w, g, (h,), new_w, (new_h,), scratch = arrays
        np.multiply(g, g, out=scratch)
        np.add(h, scratch, out=new_h)
        _descend(w, g, new_h, new_w, lr, self.epsilon, scratch)


class RMSprop(Rule, frozen=True, tag="rmsprop"):
    """``h ← ρ h + (1 - ρ) g²``; ``w ← w - lr g / (√h + ε)`` (Tieleman and Hinton 2012).

    The slot holds ``h / (1 - ρ)``, which takes one pass over the array less.
    """

    decay: Rate = 0.99
    epsilon: Epsilon = 1e-7

    @property
    def slots(self) -> tuple[str, ...]:
        """The running mean of squared gradients, over ``1 - ρ``."""
        return ("squares",)

    def update(self, arrays: Arrays, lr: float, step: int) -> None:  # noqa: D102, ARG002
        w, g, (h,), new_w, (new_h,), scratch = arrays
        _mix_squares(h, g, self.decay, new_h, scratch)
        root = math.sqrt(1 - self.decay)
        _descend(w, g, new_h, new_w, lr / root, self.epsilon / root, scratch)


class Adam(Rule, frozen=True, tag="adam"):
    """Adam with bias correction (Kingma and Ba 2015, algorithm 1).

    ``m ← β₁ m + (1 - β₁) g``; ``v ← β₂ v + (1 - β₂) g²``;
    ``w ← w - lr m̂ / (√v̂ + ε)`` with ``m̂ = m / (1 - β₁ᵗ)``, ``v̂ = v / (1 - β₂ᵗ)``, t from 1.
    The slots hold ``m / (1 - β₁)`` and ``v / (1 - β₂)``, which takes two passes over the arrays
    less; all constant factors are moved into two scalars.
    """

    beta1: Rate = 0.9
    beta2: Rate = 0.999
    epsilon: Epsilon = 1e-8

    @property
    def slots(self) -> tuple[str, ...]:
        """The running means of gradients and of squares, over ``1 - β₁`` and ``1 - β₂``."""
        return ("mean", "squares")

    def update(self, arrays: Arrays, lr: float, step: int) -> None:  # noqa: D102
        w, g, (m, v), new_w, (new_m, new_v), _ = arrays
        np.multiply(m, self.beta1, out=new_m)
        np.add(new_m, g, out=new_m)
        _mix_squares(v, g, self.beta2, new_v, g)
        # √v̂ + ε is (√slot + ε r) / r with this r
        r = math.sqrt((1 - self.beta2 ** (step + 1)) / (1 - self.beta2))
        np.sqrt(new_v, out=g)
        np.add(g, self.epsilon * r, out=g)
        np.divide(new_m, g, out=g)
        rate = lr * r * (1 - self.beta1) / (1 - self.beta1 ** (step + 1))
        np.multiply(g, rate, out=g)
        np.subtract(w, g, out=new_w)


class AdamW(Adam, frozen=True, tag="adamw"):
    """Adam whose weight decay bypasses the moments: ``w ← w (1 - lr λ)`` (Loshchilov, Hutter 2019).

    The decay itself is applied where all weight decay is, in `dptrain.optim.updater`.
    """


def _mix_squares(h: Array, g: Array, decay: float, new_h: Array, scratch: Array) -> None:
    """``new_h = decay h + g²``; ``scratch`` may be ``g``."""
    np.multiply(g, g, out=scratch)
    np.multiply(h, decay, out=new_h)
    np.add(new_h, scratch, out=new_h)


def _descend(
    w: Array, g: Array, h: Array, new_w: Array, lr: float, epsilon: float, scratch: Array
) -> None:
    np.sqrt(h, out=scratch)
    np.add(scratch, epsilon, out=scratch)
    np.divide(g, scratch, out=scratch)
    np.multiply(scratch, lr, out=scratch)
    np.subtract(w, scratch, out=new_w)


AnyRule = SGD | Momentum | Nesterov | AdaGrad | RMSprop | Adam | AdamW
RULES: dict[str, type[AnyRule]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}
DEFAULT_LR = {
    "sgd": 0.1,
    "momentum": 0.01,
    "nesterov": 0.01,
    "adagrad": 0.01,
    "rmsprop": 0.001,
    "adam": 0.001,
    "adamw": 0.001,
}
