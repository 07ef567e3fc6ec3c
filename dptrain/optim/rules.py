"""Update rules: each a frozen description with one function over arrays.

Every operation is elementwise and correctly rounded, so the result does not depend on how the
flat vector is cut. A rule may overwrite the gradient, which saves a pass through the cache.
"""

import math
from typing import Annotated, ClassVar, get_args

import numpy as np
from msgspec import Meta

from dptrain.optim.links import Array, Arrays, Decay, DecoupledDecay, Link, UpdateMoment

Rate = Annotated[float, Meta(ge=0, lt=1)]
Epsilon = Annotated[float, Meta(gt=0)]


class Rule(Link, frozen=True, tag_field="optimizer", forbid_unknown_fields=True):
    """The description of an update rule: the last link of a chain.

    Attributes:
        default_lr: the learning rate where none is given.
        default_decay: the weight decay where none is given.
    """

    default_lr: ClassVar[float]
    default_decay: ClassVar[float] = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays, each as long as the parameters and zero at the start."""
        return ()

    def weight_decay(self, rate: float) -> Link:
        """Return the link that applies weight decay ``rate`` with this rule."""
        return Decay(rate)


class SGD(Rule, frozen=True, tag="sgd"):
    """``w ← w - lr g``."""

    default_lr = 0.1

    # D102: documented in the base class. So also below.
    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: D102
        w, g, _, new_w, _, _ = arrays
        np.multiply(g, at.lr, out=g)
        np.subtract(w, g, out=new_w)


class Momentum(Rule, frozen=True, tag="momentum"):
    """``v ← μ v + g``; ``w ← w - lr v`` (Polyak 1964).

    The book writes ``v ← μ v - lr g``; ``w ← w + v``: the same while the learning rate is constant.
    """

    default_lr = 0.01
    momentum: Rate = 0.9

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity."""
        return ("velocity",)

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: D102
        w, g, (v,), new_w, (new_v,), _ = arrays
        np.multiply(v, self.momentum, out=new_v)
        np.add(new_v, g, out=new_v)
        np.multiply(new_v, at.lr, out=g)
        np.subtract(w, g, out=new_w)


class Nesterov(Rule, frozen=True, tag="nesterov"):
    """``v ← μ v + g``; ``w ← w - lr (g + μ v)`` (Sutskever et al. 2013, in Bengio's form)."""

    default_lr = 0.01
    momentum: Rate = 0.9

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity."""
        return ("velocity",)

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: D102
        w, g, (v,), new_w, (new_v,), scratch = arrays
        np.multiply(v, self.momentum, out=new_v)
        np.add(new_v, g, out=new_v)
        np.multiply(new_v, self.momentum, out=scratch)
        np.add(scratch, g, out=scratch)
        np.multiply(scratch, at.lr, out=scratch)
        np.subtract(w, scratch, out=new_w)


class AdaGrad(Rule, frozen=True, tag="adagrad"):
    """``h ← h + g²``; ``w ← w - lr g / (√h + ε)`` (Duchi et al. 2011)."""

    default_lr = 0.01
    epsilon: Epsilon = 1e-7

    @property
    def slots(self) -> tuple[str, ...]:
        """The sum of squared gradients."""
        return ("squares",)

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: D102
        w, g, (h,), new_w, (new_h,), scratch = arrays
        np.multiply(g, g, out=scratch)
        np.add(h, scratch, out=new_h)
        _descend(w, g, new_h, new_w, at.lr, self.epsilon, scratch)


class RMSprop(Rule, frozen=True, tag="rmsprop"):
    """``h ← ρ h + (1 - ρ) g²``; ``w ← w - lr g / (√h + ε)`` (Tieleman and Hinton 2012).

    The slot holds ``h / (1 - ρ)``, which saves one pass over the array.
    """

    default_lr = 0.001
    decay: Rate = 0.99
    epsilon: Epsilon = 1e-7

    @property
    def slots(self) -> tuple[str, ...]:
        """The running mean of squared gradients, over ``1 - ρ``."""
        return ("squares",)

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: D102
        w, g, (h,), new_w, (new_h,), scratch = arrays
        _mix_squares(h, g, self.decay, new_h, scratch)
        root = math.sqrt(1 - self.decay)
        _descend(w, g, new_h, new_w, at.lr / root, self.epsilon / root, scratch)


class Adam(Rule, frozen=True, tag="adam"):
    """Adam with bias correction (Kingma and Ba 2015, algorithm 1).

    ``m ← β₁ m + (1 - β₁) g``; ``v ← β₂ v + (1 - β₂) g²``;
    ``w ← w - lr m̂ / (√v̂ + ε)`` with ``m̂ = m / (1 - β₁ᵗ)``, ``v̂ = v / (1 - β₂ᵗ)``, t from 1.
    The slots hold ``m / (1 - β₁)`` and ``v / (1 - β₂)``, which saves two passes over the
    arrays; all constant factors are moved into two scalars.
    """

    default_lr = 0.001
    beta1: Rate = 0.9
    beta2: Rate = 0.999
    epsilon: Epsilon = 1e-8

    @property
    def slots(self) -> tuple[str, ...]:
        """The running means of gradients and of squares, over ``1 - β₁`` and ``1 - β₂``."""
        return ("mean", "squares")

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: D102
        w, g, (m, v), new_w, (new_m, new_v), _ = arrays
        np.multiply(m, self.beta1, out=new_m)
        np.add(new_m, g, out=new_m)
        _mix_squares(v, g, self.beta2, new_v, g)
        # √v̂ + ε is (√slot + ε r) / r with this r
        r = math.sqrt((1 - self.beta2 ** (at.step + 1)) / (1 - self.beta2))
        np.sqrt(new_v, out=g)
        np.add(g, self.epsilon * r, out=g)
        np.divide(new_m, g, out=g)
        rate = at.lr * r * (1 - self.beta1) / (1 - self.beta1 ** (at.step + 1))
        np.multiply(g, rate, out=g)
        np.subtract(w, g, out=new_w)


class AdamW(Adam, frozen=True, tag="adamw"):
    """Adam whose weight decay bypasses the moments (Loshchilov and Hutter 2019)."""

    default_decay = 0.01  # without any, adamw would be adam to the last bit

    def weight_decay(self, rate: float) -> Link:
        """Return decoupled decay, which does not enter gradient and moments."""
        return DecoupledDecay(rate)


class Lion(Rule, frozen=True, tag="lion"):
    """The sign of a mean of gradients (Chen et al. 2023, "Symbolic discovery", algorithm 2).

    ``w ← w - lr sign(β₁ m + (1 - β₁) g)``, with weight decay as in AdamW; then
    ``m ← β₂ m + (1 - β₂) g``. Every weight moves by the learning rate, whatever the size of its
    gradient, so it should be smaller than Adam's, and weight decay larger. The slot holds
    ``m / (1 - β₂)``, which saves one pass over the array.
    """

    default_lr = 0.0001
    beta1: Rate = 0.9
    beta2: Rate = 0.99

    @property
    def slots(self) -> tuple[str, ...]:
        """The running mean of gradients, over ``1 - β₂``."""
        return ("mean",)

    def weight_decay(self, rate: float) -> Link:
        """Return decoupled decay, which does not enter the sign."""
        return DecoupledDecay(rate)

    def update(self, arrays: Arrays, at: UpdateMoment) -> None:  # noqa: D102
        w, g, (m,), new_w, (new_m,), scratch = arrays
        # only the sign counts: this is what it is of, over 1 - β₁
        np.multiply(m, self.beta1 * (1 - self.beta2) / (1 - self.beta1), out=scratch)
        np.add(scratch, g, out=scratch)
        np.multiply(m, self.beta2, out=new_m)
        np.add(new_m, g, out=new_m)
        np.sign(scratch, out=scratch)
        np.multiply(scratch, at.lr, out=scratch)
        np.subtract(w, scratch, out=new_w)


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


AnyRule = SGD | Momentum | Nesterov | AdaGrad | RMSprop | Adam | AdamW | Lion
RULES: dict[str, type[AnyRule]] = {str(k.__struct_config__.tag): k for k in get_args(AnyRule)}
