"""An update as a recipe: what is done from a reduced gradient to new weights and a new state.

The order is that of the documented definition: clip the gradient by its global norm, add the L1
penalty and weight decay, apply the rule. The right step follows from the recipe of a job, with a
bound of rounding beside every number; a mistake is a recipe of which one piece is another. Pieces
that a mistake puts in compute with plain arrays, and are taken for exact.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.reference.bounded import Bounded
from dptrain.gradcheck.reference.places import layer_of
from dptrain.gradcheck.updates.optimizers import DOUBLE, Numbers, Rule, rule_of
from dptrain.gradcheck.updates.rates import Rates, bounded_rate, schedule_of
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.network import Network, Tensor

Array = NDArray[Any]


class Given(NamedTuple):
    """What a step is given, flat ``(size,)``.

    Attributes:
        number: counted from 0.
        weights: before it.
        gradient: 0 for what is not trained.
        whole: the same with what stands in the place of the others.
    """

    number: int
    weights: Array
    gradient: Array
    whole: Array


@dataclass(frozen=True, eq=False)
class Penalty:
    """What is added for the size of the weights: ``coefficient · often · of``.

    Attributes:
        coefficient: such as λ; 0 without a penalty.
        of: what it is a multiple of: the weights, or their signs.
        often: how often it counts for each element.
        coupled: whether it goes through the gradient, and not past the rule.
        rate: what it is multiplied by that goes past the rule, of the learning rate.
        late: whether it goes by the updated weights.
    """

    coefficient: float
    of: Callable[[Given], Array]
    often: Array
    coupled: bool = True
    rate: Callable[[float], float] | None = None
    late: bool = False

    def gradient(self, given: Given) -> Array:
        """Return what it adds to the gradient."""
        return self.coefficient * self.coupled * self.often * self.of(given)


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a step is computed.

    Attributes:
        rule: what makes a direction of the gradient.
        rates: the learning rate of each step.
        trained: which elements the rule applies to, bool ``(size,)``.
        averaging: how far the others move towards what stands in their gradient's place.
        limit: of clipping.
        l1: the L1 penalty.
        decay: weight decay.
        clip: makes the clipped gradient, in the place of ``g min(1, limit / norm)``.
        clips_last: whether clipping comes behind the penalties.
        factors: of the learning rate, for each element.
        count: Adam's t of each step.
        keeps: whether a step finds the state of this name that the one before has left.
        times: how often the update is applied.
        elsewhere: the recipe of other steps than those that follow, and of other elements.
        steps: to which this one applies; None for all.
        elements: likewise, bool ``(size,)``; it takes two textbooks to go by that.
    """

    rule: Rule
    rates: Rates
    trained: Array
    averaging: Array
    limit: float
    l1: Penalty
    decay: Penalty
    clip: Callable[[Given], Array] | None = None
    clips_last: bool = False
    factors: Array | None = None
    count: Callable[[int], int] = lambda step: step + 1
    keeps: Callable[[int, str], bool] | None = None
    times: int = 1
    elsewhere: "Recipe | None" = None
    steps: frozenset[int] | None = None
    elements: Array | None = None


class Predicted(NamedTuple):
    """What a step does.

    Attributes:
        change: of the weights, flat ``(size,)``; its value is new minus old weights, its bound
            that of the new weights.
        state: of the optimizer after the step, by name, in the published scale.
    """

    change: Bounded
    state: dict[str, Bounded]


class Textbook:
    """An optimizer that keeps its own state, from the first step on."""

    def __init__(
        self,
        job: Job,
        recipe: Recipe | None = None,
        slots: Sequence[Array] | None = None,
        *,
        bounds: bool = True,
    ) -> None:
        """Begin.

        Args:
            job: settled.
            recipe: the job's own unless given.
            slots: the run's optimizer state before the first step; zero unless given.
            bounds: whether errors are bounded.
        """
        self._recipe = recipe or recipe_of(job)
        self._numbers = Numbers(job.dtype, bounds=bounds)
        scales = rule_of(job).scales.items()
        begun = zip(scales, slots or [np.zeros(job.network.size)] * len(scales), strict=True)
        self._state = {
            name: self._numbers.exact(np.asarray(slot, float) * scale)
            for (name, scale), slot in begun
        }

    def step(self, number: int, weights: Array, gradient: Array) -> Predicted:
        """Return what a step does, and keep its state.

        Args:
            number: counted from 0.
            weights: flat ``(size,)``, before it.
            gradient: reduced, flat ``(size,)``, in the place of running averages the minibatch's.
        """
        r, n = self._recipe, self._numbers
        if r.elsewhere is not None and r.steps is not None and number not in r.steps:
            r = r.elsewhere
        before = after = n.exact(weights)
        whole = np.asarray(gradient, float)
        own = np.where(r.trained, whole, 0)
        if r.keeps is not None:
            lost = [name for name in self._state if not r.keeps(number, name)]
            self._state |= {name: n.exact(np.zeros(len(whole))) for name in lost}
        for _ in range(r.times):
            after = self._updated(r, Given(number, after.value, own, whole), after)
        averaged = self._averaged(r, before, n.exact(whole))
        change = chosen(r.trained, n.floored(after), averaged)
        zeros = n.exact(np.zeros(len(whole))).error
        state = {
            name: chosen(r.trained, n.floored(each), each.like(each.value, zeros))
            for name, each in self._state.items()
        }
        return Predicted(change.like(change.value - before.value, change.error), state)

    def _updated(self, r: Recipe, given: Given, w: Bounded) -> Bounded:
        """Return new weights."""
        n, g = self._numbers, self._numbers.exact(given.gradient)
        if not r.clips_last:
            g = self._clipped(r, given, g)
        penalties = [each for each in (r.l1, r.decay) if each.coefficient]
        for each in penalties:
            if each.coupled:
                g = n.floored(g + n.times(each.coefficient, n.exact(each.often * each.of(given))))
        if r.clips_last:
            g = self._clipped(r, given._replace(gradient=g.value), g)
        lr = float(r.rates(given.number))
        rate = n.constant(bounded_rate(r.rates, given.number))
        of_element = rate if r.factors is None else rate * n.exact(r.factors)
        t = max(1, r.count(given.number))
        descent = of_element * r.rule.direction(self._state, g, t, lr, n)
        for each in penalties:
            if not each.coupled:
                at = given._replace(weights=(w - descent).value) if each.late else given
                by = of_element if each.rate is None else n.constant(each.rate(lr))
                descent = descent + by * n.constant(each.coefficient) * n.exact(
                    each.often * each.of(at)
                )
        return w - descent

    def _clipped(self, r: Recipe, given: Given, g: Bounded) -> Bounded:
        n = self._numbers
        if r.clip is not None:
            return n.exact(r.clip(given))
        if not math.isfinite(r.limit):
            return g
        exact = Bounded(given.gradient, np.zeros(g.shape), DOUBLE)
        norm = (exact * exact).sum(0).sqrt()
        assert norm.error is not None
        if norm.value + norm.error < r.limit:
            return g
        factor = norm.exactly(r.limit) / norm
        factor = factor.like(np.minimum(factor.value, 1), factor.error)
        return n.floored(g * n.constant(factor))

    def _averaged(self, r: Recipe, w: Bounded, g: Bounded) -> Bounded:
        """Return running averages after the step, and everything else as it was."""
        unit, rate = self._numbers.unit, r.averaging
        kept, taken = (g.like(each, unit * np.abs(each)) for each in (1 - rate, rate))
        return chosen(rate != 0, self._numbers.floored(kept * w + taken * g), w)


def norm_of(g: Array) -> float:
    """Return the root of the sum of squares."""
    return float(np.sqrt(np.sum(g * g)))


def factor_of(norm: float, limit: float) -> float:
    """Return what a gradient of this norm is multiplied by."""
    return min(1.0, limit / norm) if norm else 1.0


def chosen(which: Array, found: Bounded, other: Bounded) -> Bounded:
    """Return some elements of the one, and the rest of the other."""
    value = np.where(which, found.value, other.value)
    if found.error is None or other.error is None:
        return found.like(value, None)
    return found.like(value, np.where(which, found.error, other.error))


def recipe_of(job: Job) -> Recipe:
    """Return how a job's updates should be computed."""
    e, rule, tensors = job.experiment, rule_of(job), job.network.all_tensors()
    size = job.network.size
    trained = spread(tensors, size, lambda t: t.trained) > 0
    decaying = spread(tensors, size, lambda t: t.trained and _is_weight(job, t))
    return Recipe(
        rule,
        schedule_of(job),
        trained,
        averaging=spread(tensors, size, lambda t: _moves(job, t)),
        limit=math.inf if e.clip_norm is None else e.clip_norm,
        l1=Penalty(e.l1, lambda given: np.sign(given.weights), decaying),
        decay=Penalty(
            e.weight_decay, lambda given: given.weights, decaying, coupled=not rule.decoupled
        ),
    )


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


def _is_weight(job: Job, tensor: Tensor) -> bool:
    """Return whether penalties apply, by what a tensor is and not by what the updater is told.

    To weights, which are called W, and not to biases, scales and shifts. In a network of the user's
    own nobody but its layout tells them apart.
    """
    if isinstance(job.network, Network):
        return tensor.name.endswith(".W")
    return tensor.decays
