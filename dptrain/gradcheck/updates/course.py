"""A run that was seen, with what each step was given, and how far it is from a recipe."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.slices import slices
from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.diagnosis import EXPLAINS
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.reference.bounded import UNITS, Bounded
from dptrain.gradcheck.updates.optimizers import rule_of
from dptrain.gradcheck.updates.textbook import Predicted, Recipe, Textbook, chosen, recipe_of
from dptrain.machine.blas import one_blas_thread
from dptrain.nn.network import Tensor

Array = NDArray[Any]

# The run arranges the formulas otherwise: it keeps its state in another scale, moves constants into
# one factor, and so rounds at other places, up to twice as often. Its error and the textbook's own
# (in float64, of the same size) each lie within the bound times two.
FACTOR = 4.0
# What explains the weights equally well may yet differ in the state, which counts so much.
OF_STATE = 1e-8
# Nothing is farther outside of its tolerance than this: sums of squares stay finite.
LIMIT = 1e100


def course_of(
    job: Job,
    steps: Sequence[Step],
    workers: int,
    slots: Sequence[Array] | None,
    local: Local | None = None,
) -> "Course":
    """Return a run with the gradients that its steps should have been given.

    Args:
        job: settled.
        steps: of the run, one behind the other.
        workers: of the run.
        slots: the optimizer's state before the first step; None where it was new.
        local: the job in this process.
    """
    found = local or Local(job)
    # with one thread, as ranks compute: with more, products differ in their last bits
    with one_blas_thread():
        gradients = [found.analytic(s.before.parameters, s.number).gradient for s in steps]
    return Course(job, workers, steps, gradients, slots)


@dataclass(frozen=True)
class Course:
    """What was seen of a run; changes and deviations are ``(steps, size)``.

    Attributes:
        job: of the run.
        workers: the world size, by which much is multiplied or divided that should not be.
        steps: one behind the other.
        gradients: reduced, one for each step, flat ``(size,)``.
        slots: the optimizer's state before the first step; None where it was new.
    """

    job: Job
    workers: int
    steps: Sequence[Step]
    gradients: Sequence[Array]
    slots: Sequence[Array] | None

    @cached_property
    def book(self) -> Recipe:
        """How the steps should be computed."""
        return recipe_of(self.job)

    @cached_property
    def right(self) -> list[Predicted]:
        """What the steps do by the book, with bounds."""
        return self.predicted(self.book, bounds=True)

    @cached_property
    def numbers(self) -> list[int]:
        """Of the steps."""
        return [each.number for each in self.steps]

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All of them."""
        return list(self.job.network.all_tensors())

    @cached_property
    def slices(self) -> list[tuple[int, int]]:
        """Where those of the ranks stand."""
        return [s for s in slices(self.job.network.size, self.workers) if s[0] < s[1]]

    @cached_property
    def partials(self) -> dict[int, Array]:
        """Every rank's part of the gradient of each step, where clipping makes them matter."""
        job, local, found = self.job, Local(self.job), {}
        matter = job.experiment.clip_norm is not None and self.workers > 1
        for step in self.steps if matter else ():
            reference = local.reference(step.number)
            if reference is None:
                return {}
            weights = np.asarray(step.before.parameters, float)
            shards = reference.gradient(weights, UNITS[job.dtype.name]).shards
            own = [shards[low:high].sum(axis=0) for low, high in assign(job.shards, self.workers)]
            found[step.number] = np.where(self.book.trained, own, 0)
        return found

    @cached_property
    def changes(self) -> Array:
        """How the weights changed."""
        pairs = ((s.after.parameters, s.before.parameters) for s in self.steps)
        return np.array([np.subtract(after, before, dtype=float) for after, before in pairs])

    @cached_property
    def certainty(self) -> Array:
        """One over the tolerance of each change; 0 where nothing is known."""
        with np.errstate(all="ignore"):
            found = 1 / np.array([room_of(each.change) for each in self.right])
        return np.where(np.isfinite(found), found, 0.0)

    @cached_property
    def deviation(self) -> tuple[Array, Array]:
        """By how many tolerances weights and state, ``(steps, slots, size)``, are off."""
        return self._beyond(self.right)

    def state(self, found: TrainingState) -> dict[str, Array]:
        """Return an optimizer's state by name, in the published scale."""
        pairs = zip(rule_of(self.job).scales.items(), found.slots, strict=True)
        return {name: np.asarray(slot, float) * scale for (name, scale), slot in pairs}

    def predicted(self, recipe: Recipe, *, bounds: bool = False) -> list[Predicted]:
        """Return what the steps do by a recipe."""
        textbook = Textbook(self.job, recipe, self.slots, bounds=bounds)
        given = zip(self.steps, self.gradients, strict=True)
        with np.errstate(all="ignore"):
            found = [textbook.step(s.number, s.before.parameters, g) for s, g in given]
        if recipe.elements is None or recipe.elsewhere is None:
            return found
        others = self.predicted(recipe.elsewhere, bounds=bounds)
        return [
            Predicted(
                chosen(recipe.elements, own.change, other.change),
                {k: chosen(recipe.elements, v, other.state[k]) for k, v in own.state.items()},
            )
            for own, other in zip(found, others, strict=True)
        ]

    def values(self, recipe: Recipe) -> Array:
        """Return how the weights change by a recipe."""
        return np.array([each.change.value for each in self.predicted(recipe)])

    def off(self, recipe: Recipe) -> Array:
        """Return by how many tolerances that is not what was seen."""
        with np.errstate(all="ignore"):
            found = (self.values(recipe) - self.changes) * self.certainty
        return np.where(np.isnan(found), np.inf, found)

    def factor(self, values: Array, *which: Any, of: Array | None = None) -> float:
        """Return by which factor changes fit best in some steps and elements, NaN if in none.

        Args:
            values: changes.
            which: steps and elements.
            of: the changes that they are to be, instead of those that were seen.
        """
        with np.errstate(all="ignore"):
            found = (self.changes if of is None else of)[which] * self.certainty[which]
            wanted = values[which] * self.certainty[which]
            known = np.isfinite(found) & np.isfinite(wanted)
            square = float(wanted[known] @ wanted[known])
            return float(found[known] @ wanted[known]) / square if square > 0 else math.nan

    def left(self, recipe: Recipe) -> float:
        """Return which part a recipe leaves of the deviation, of the weights or else the state.

        What is near is computed once more with bounds, and may be off by those as well.
        """
        of_weights = bool(self.deviation[0].any())
        scale = size_of(self.deviation[0 if of_weights else 1])
        for bounds in (False, True):
            weights, state = self._beyond(self.predicted(recipe, bounds=bounds))
            left = size_of(weights if of_weights else state) / scale
            if left > EXPLAINS:
                break
        return left + OF_STATE * min(1.0, size_of(state)) if of_weights else left

    def _beyond(self, wanted: Sequence[Predicted]) -> tuple[Array, Array]:
        weights, state = [], []
        for i, (own, other) in enumerate(zip(self.right, wanted, strict=True)):
            weights.append(_outside(self.changes[i], own.change, other.change))
            found = self.state(self.steps[i].after)
            state.append([_outside(found[k], own.state[k], other.state[k]) for k in found])
        return np.array(weights), np.array(state).reshape(len(weights), -1, self.job.network.size)


def room_of(book: Bounded) -> Array:
    """Return how far a run may be from a number of the book."""
    assert book.error is not None
    return np.asarray(FACTOR * book.error)


def size_of(parts: Array) -> float:
    """Return the root of the sum of squares."""
    return float(np.sqrt(np.sum(np.square(parts))))


def _outside(found: Array, book: Bounded, wanted: Bounded) -> Array:
    """Return by how many tolerances elements lie outside of theirs, at most 1e100."""
    room = room_of(book)
    if wanted.error is not None:
        room = np.maximum(room, room_of(wanted))
    with np.errstate(all="ignore"):
        difference = np.abs(found - wanted.value)
        ratio = np.where(difference <= room, 0, difference / np.maximum(room, 1e-300))
    return np.where(np.isnan(ratio), LIMIT, np.clip(ratio - 1, 0, LIMIT))
