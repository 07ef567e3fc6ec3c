"""What gradient an optimizer was given, read off its state or the weights: its rule turned round.

Nothing is known of clipping here, nor of anything else that happens before the rule; so what is
read off is compared with the gradient that should have been given.
"""

from typing import NamedTuple

import numpy as np

from dptrain.experiment.job import Job
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.updates.optimizers import Done, decouples, optimizer_of, state_scales
from dptrain.gradcheck.updates.rates import learning_rate
from dptrain.gradcheck.updates.textbook import Array, Textbook

# Roundings between the gradient and what it is read off.
ROUNDINGS = 8.0


class Applied(NamedTuple):
    """A gradient that was read off.

    Attributes:
        gradient: as it came to the penalties, flat ``(size,)``; 0 for what is not trained.
        room: how far rounding can have moved it, likewise.
    """

    gradient: Array
    room: Array


def applied(job: Job, step: Step) -> Applied:
    """Return the gradient that the optimizer was given in a step."""
    book, e = Textbook(job), job.experiment
    with np.errstate(all="ignore"):
        found, size = _given(job, step)
        w = np.asarray(step.before.parameters, float)
        penalty = np.zeros(len(w))
        if e.l1:
            penalty = penalty + e.l1 * np.sign(w)
        if e.weight_decay and not decouples(job):
            penalty = penalty + e.weight_decay * w
        penalty = np.where(book.decaying, penalty, 0)
    room = ROUNDINGS * UNITS[job.dtype.name] * (size + np.abs(penalty))
    return Applied(np.where(book.trained, found - penalty, 0.0), np.where(book.trained, room, 0.0))


def _given(job: Job, step: Step) -> tuple[Array, Array]:
    """Return what came to the rule, and the size of what it is the difference of."""
    before, after = (np.asarray(s.parameters, float) for s in (step.before, step.after))
    scales = state_scales(job)
    old, new = (
        {
            name: np.asarray(slot, float) * scale
            for (name, scale), slot in zip(scales.items(), state.slots, strict=True)
        }
        for state in (step.before, step.after)
    )
    rate = float(learning_rate(job, step.number).value)
    done = Done(job.experiment, old, new, before, after, rate, UNITS[job.dtype.name])
    return optimizer_of(job).given(done)
