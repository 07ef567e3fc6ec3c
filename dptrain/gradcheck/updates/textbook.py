"""Optimizers as the textbooks write them, with bounds of rounding, on one flat vector.

Nothing is shared with `dptrain.optim`: the formulas are arranged as published, the state is kept in
the published scale, and the learning rate is computed anew. Every number carries a bound of what
rounding to the job's dtype can do to it (`dptrain.gradcheck.reference.bounded`).

The order is that of the documented definition: clip the gradient by its global norm, add the L1
penalty and weight decay, apply the rule.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.reference.bounded import Bounded
from dptrain.gradcheck.reference.places import layer_of
from dptrain.gradcheck.updates.numbers import DOUBLE, Numbers
from dptrain.gradcheck.updates.optimizers import At, decouples, optimizer_of, state_scales
from dptrain.gradcheck.updates.rates import learning_rate
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.network import Network, Tensor

Array = NDArray[Any]
Clipping = Callable[[int, Array, float], Array]
# From state, gradient, t and learning rate to what the rate multiplies; the state is updated.
Rule = Callable[[dict[str, Array], Array, int, float], Array]


class Given(NamedTuple):
    """What a step is given, flat ``(size,)``.

    Attributes:
        number: counted from 0.
        weights: before it.
        gradient: 0 for what is not trained.
        whole: the same with what stands in the place of the others.
        decaying: to which the penalties apply, bool.
    """

    number: int
    weights: Array
    gradient: Array
    whole: Array
    decaying: Array


@dataclass(frozen=True, eq=False)
class Slip:
    """How a wrong optimizer deviates from the book; without arguments, not at all.

    Attributes:
        kind: of the mistake; empty for the book itself.
        sentence: what it is.
        sign: of the gradient, where the optimizer gets it.
        rate: factor of the learning rate.
        schedule: steps by which the schedule is ahead.
        time: steps by which Adam's bias correction is ahead.
        decay: factor of weight decay and the L1 penalty.
        decays_all: whether they apply to every trained tensor, biases too.
        recouples: whether weight decay goes the other way: through the moments for AdamW, past
            them for the others.
        clip: what makes the clipped gradient of step, gradient and limit.
        epsilon_inside: whether ε stands under the root.
        momentum: sign of what is kept of the velocity, or of the first moment.
        forgets: steps before which the state is as at the start; None stands for all.
        loses: names of the state that is; empty for all of it.
        restarts: whether Adam's count of steps begins anew with the state.
        times: how often the update is applied.
        swaps_average: whether running averages keep what they should take.
        rates: the learning rate of each step.
        factors: of the learning rate, for each element.
        counts: Adam's t of each step.
        decays: factor of weight decay, for each element.
        penalises: factor of the L1 penalty, for each element.
        mixes: what running averages keep of themselves and take of the new, for each element.
        prepares: what clips and adds penalties: returns the gradient that the rule gets.
        rule: in the place of the job's.
        descends: makes the new weights of what a step is given, direction and learning rate.
        only: steps in which it deviates; all of them unless given.
    """

    kind: str = ""
    sentence: str = ""
    sign: float = 1.0
    rate: float = 1.0
    schedule: int = 0
    time: int = 0
    decay: float = 1.0
    decays_all: bool = False
    recouples: bool = False
    clip: Clipping | None = None
    epsilon_inside: bool = False
    momentum: float = 1.0
    forgets: tuple[int, ...] | None = ()
    loses: tuple[str, ...] = ()
    restarts: bool = False
    times: int = 1
    swaps_average: bool = False
    rates: Callable[[int], float] | None = None
    factors: Array | None = None
    counts: Callable[[int], int] | None = None
    decays: Array | None = None
    penalises: Array | None = None
    mixes: tuple[Array, Array] | None = None
    prepares: Callable[[Given], Array] | None = None
    rule: Rule | None = None
    descends: Callable[[Given, Array, float], Array] | None = None
    only: frozenset[int] | None = None


class Predicted(NamedTuple):
    """What a step does.

    Attributes:
        change: of the weights, flat ``(size,)``; its value is new minus old weights, its bound
            that of the new weights.
        state: of the optimizer after the step, by name, in the published scale.
    """

    change: Bounded
    state: dict[str, Bounded]


BY_THE_BOOK = Slip()


class Textbook:
    """An optimizer that keeps its own state, from the first step on.

    Attributes:
        trained: which elements the rule applies to, bool ``(size,)``.
        averages: how far the others move towards what stands in their gradient's place.
    """

    def __init__(
        self, job: Job, slip: Slip = BY_THE_BOOK, slots: Sequence[Array] | None = None
    ) -> None:
        """Begin.

        Args:
            job: settled.
            slip: how to deviate.
            slots: the run's optimizer state before the first step; zero unless given.
        """
        self._job = job
        self._slip = self._always = slip
        self._numbers = Numbers(job.dtype)
        self._unit, self._tiny = self._numbers.unit, self._numbers.tiny
        tensors = job.network.all_tensors()
        self.trained = spread(tensors, job.network.size, lambda t: t.trained) > 0
        self.averages = spread(tensors, job.network.size, partial(_moves, job))
        chosen = spread(tensors, job.network.size, partial(is_weight, job)) > 0
        self.decaying = self.trained & chosen
        self._begun = {
            name: self._numbers.exact(
                np.asarray(slots[i], float) * scale if slots else self._zeros()
            )
            for i, (name, scale) in enumerate(state_scales(job).items())
        }
        self._state = dict(self._begun)
        self._clock = 0

    def step(self, number: int, weights: Array, gradient: Array) -> Predicted:
        """Return what a step does, and keep its state.

        Args:
            number: counted from 0.
            weights: flat ``(size,)``, before it.
            gradient: reduced, flat ``(size,)``, in the place of running averages the minibatch's.
        """
        only = self._always.only
        self._slip = self._always if only is None or number in only else BY_THE_BOOK
        before = after = self._numbers.exact(np.asarray(weights, float))
        whole = np.asarray(gradient, float)
        own = np.where(self.trained, whole, 0) * self._slip.sign
        self._forget(number)
        for _ in range(self._slip.times):
            given = Given(number, after.value, own, whole, self.decaying)
            after = self._rule(given, after, self._prepared(given, after))
        averaged = self._averaged(before, self._numbers.exact(np.asarray(gradient, float)))
        value = np.where(self.trained, after.value, averaged.value) - before.value
        assert after.error is not None
        assert averaged.error is not None
        error = np.where(self.trained, after.error + self._tiny, averaged.error)
        return Predicted(
            before.like(value, error), {k: self._masked(s) for k, s in self._state.items()}
        )

    def _zeros(self) -> Array:
        return np.zeros(self._job.network.size)

    def _masked(self, found: Bounded) -> Bounded:
        assert found.error is not None
        return found.like(found.value, np.where(self.trained, found.error + self._tiny, 0.0))

    def _forget(self, number: int) -> None:
        forgets = self._slip.forgets
        if forgets is None or number in forgets:
            lost = self._slip.loses or self._begun
            self._state |= {name: self._numbers.exact(self._zeros()) for name in lost}
            self._clock = number if self._slip.restarts else 0

    def _prepared(self, given: Given, w: Bounded) -> Bounded:
        """Return the gradient that the rule gets."""
        if self._slip.prepares is not None:
            return self._numbers.exact(self._slip.prepares(given))
        return self._decayed(w, self._clipped(given.number, self._numbers.exact(given.gradient)))

    def _clipped(self, number: int, g: Bounded) -> Bounded:
        limit = self._job.experiment.clip_norm
        if self._slip.clip is not None:
            value = self._slip.clip(number, g.value, math.inf if limit is None else limit)
            return Bounded(value, 2 * self._unit * np.abs(value), self._unit)
        if limit is None:
            return g
        exact = Bounded(g.value, np.zeros(g.shape), DOUBLE)
        norm = (exact * exact).sum(0).sqrt()
        assert norm.error is not None
        if norm.value + norm.error < limit:
            return g
        factor = exact.exactly(limit) / norm
        return self._numbers.floored(
            g * self._numbers.constant(factor.like(np.minimum(factor.value, 1), factor.error))
        )

    def _decayed(self, w: Bounded, g: Bounded) -> Bounded:
        """Return the gradient with those of the penalties."""
        e, slip = self._job.experiment, self._slip
        if e.l1:
            g = g + self._penalised(w, slip.penalises) * w.exactly(
                np.sign(w.value)
            ) * self._numbers.constant(e.l1 * slip.decay)
        if e.weight_decay and decouples(self._job) is slip.recouples:
            decays = self._penalised(w, slip.decays)
            g = g + decays * w * self._numbers.constant(e.weight_decay * slip.decay)
        return self._numbers.floored(g) if e.l1 or e.weight_decay else g

    def _penalised(self, w: Bounded, factors: Array | None) -> Bounded:
        """Return how often a penalty counts for each element."""
        if factors is not None:
            return w.exactly(np.where(self.trained, factors, 0.0))
        return w.exactly((self.decaying | (self.trained & self._slip.decays_all)).astype(float))

    def _rule(self, given: Given, w: Bounded, g: Bounded) -> Bounded:
        e, slip = self._job.experiment, self._slip
        lr = learning_rate(self._job, given.number + slip.schedule)
        lr = lr if slip.rates is None else lr.exactly(slip.rates(given.number))
        rate = self._numbers.constant(lr * lr.exactly(slip.rate))
        if slip.factors is not None:
            rate = rate * rate.exactly(slip.factors)
        direction = self._direction(given.number, g, float(lr.value))
        if slip.descends is not None:
            return self._numbers.exact(slip.descends(given, direction.value, float(lr.value)))
        descent = rate * direction
        if e.weight_decay and decouples(self._job) is not slip.recouples:
            decays = self._penalised(w, slip.decays)
            descent = (
                descent + rate * self._numbers.constant(e.weight_decay * slip.decay) * decays * w
            )
        return w - descent

    def _direction(self, number: int, g: Bounded, lr: float) -> Bounded:
        """Update the state; return what the learning rate multiplies."""
        state, slip = self._state, self._slip
        t = number + 1 + slip.time - self._clock if slip.counts is None else slip.counts(number)
        if slip.rule is not None:
            values = {name: each.value for name, each in state.items()}
            direction = slip.rule(values, g.value, max(t, 1), lr)
            self._state = {name: self._numbers.exact(each) for name, each in values.items()}
            return self._numbers.exact(direction)
        at = At(
            self._job.experiment,
            state,
            max(t, 1),
            slip.momentum,
            self._numbers,
            slip.epsilon_inside,
        )
        return optimizer_of(self._job).direction(at, g)

    def _averaged(self, w: Bounded, g: Bounded) -> Bounded:
        """Return running averages after the step, and everything else as it was."""
        rate = self.averages
        if self._slip.swaps_average:
            rate = np.where(rate > 0, 1 - rate, 0)
        parts = (1 - rate, rate) if self._slip.mixes is None else self._slip.mixes
        kept, taken = (Bounded(each, self._unit * np.abs(each), self._unit) for each in parts)
        found = kept * w + taken * g
        assert found.error is not None
        moves = rate > 0
        value = np.where(moves, found.value, w.value)
        return w.like(value, np.where(moves, found.error + self._tiny, 0.0))


def spread(tensors: Sequence[Tensor], size: int, of: Callable[[Tensor], float]) -> Array:
    """Return a number of each tensor for all of its elements, ``(size,)``."""
    found = np.zeros(size)
    for tensor in tensors:
        found[tensor.start : tensor.stop] = of(tensor)
    return found


def _moves(job: Job, tensor: Tensor) -> float:
    """Return how much of the minibatch's value a running average takes, by its layer's momentum.

    State of a network of the user's own is what its code makes of it.
    """
    if tensor.trained or tensor.frozen:
        return 0.0
    if not isinstance(job.network, Network):
        return tensor.average or 0.0
    layer = layer_of(job.network.row, tensor)
    return 1 - layer.momentum if isinstance(layer, BatchNorm) else tensor.average or 0.0


def is_weight(job: Job, tensor: Tensor) -> bool:
    """Return whether penalties apply, by what a tensor is and not by what the updater is told.

    To weights, which are called W, and not to biases, scales and shifts. In a network of the user's
    own nobody but its layout tells them apart.
    """
    if isinstance(job.network, Network):
        return tensor.name.endswith(".W")
    return tensor.decays
