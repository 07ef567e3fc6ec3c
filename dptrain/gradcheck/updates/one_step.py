"""The one-step oracle: what an optimizer makes of its gradient, against the textbook.

The gradient that a step was given is computed here, from the run's own weights before the step; it
is the same to the last bit whoever computes it. The state of the optimizer is the textbook's own,
kept from the first step on, so that a run that loses its state does not agree from then on.

Compared is the change of the weights, not the weights: that tells how small a mistake of the update
would have been seen.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Array, Comparison, compare, told_of
from dptrain.gradcheck.diagnosis import EXPLAINS, Diagnosis, described, ranked
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.hypotheses.areas import areas, place
from dptrain.gradcheck.hypotheses.buffers import stale_buffers, unwritten
from dptrain.gradcheck.updates.factors import factor_slips, seen
from dptrain.gradcheck.updates.fits import Seen
from dptrain.gradcheck.updates.given import given_gradient
from dptrain.gradcheck.updates.optimizers import state_scales
from dptrain.gradcheck.updates.partials import ShardGradients, partials_of
from dptrain.gradcheck.updates.search import Left, search
from dptrain.gradcheck.updates.slips import slips
from dptrain.gradcheck.updates.textbook import BY_THE_BOOK, Predicted, Slip, Textbook
from dptrain.gradcheck.verdict import Verdict

# The run arranges the formulas otherwise: it keeps its state in another scale, moves constants into
# one factor, and so rounds at other places, up to twice as often. Its error and the textbook's own
# (in float64, of the same size) each lie within the bound times two.
FACTOR = 4.0

# What explains all but this of a deviation is not looked behind.
EXACTLY = 1e-6
# With numbers that are free, much can be explained by half: such an explanation must leave less.
FITTED = 1e-3

# Nothing is farther outside of its tolerance than this: sums of squares stay finite.
LIMIT = 1e100

Beyond = Callable[["Course", Sequence[Predicted], Sequence[Predicted]], list[Array]]


class Course(NamedTuple):
    """What was seen of a run, with what each step was given.

    Attributes:
        job: of the run.
        steps: one behind the other.
        gradients: reduced, one for each step, flat ``(size,)``.
        slots: the optimizer's state before the first step; None where it was new.
    """

    job: Job
    steps: Sequence[Step]
    gradients: Sequence[Array]
    slots: Sequence[Array] | None

    def predicted(self, slip: Slip = BY_THE_BOOK) -> list[Predicted]:
        """Return what the steps do by the book, or with a mistake."""
        book = Textbook(self.job, slip, self.slots)
        with np.errstate(all="ignore"):
            return [
                book.step(step.number, step.before.parameters, gradient)
                for step, gradient in zip(self.steps, self.gradients, strict=True)
            ]

    def state(self, step: Step) -> dict[str, Array]:
        """Return a run's optimizer state after a step, in the published scale."""
        scales = state_scales(self.job)
        return {
            name: np.asarray(slot, float) * scale
            for (name, scale), slot in zip(scales.items(), step.after.slots, strict=True)
        }


def check_updates(
    job: Job,
    steps: Sequence[Step],
    where: str,
    *,
    workers: int = 1,
    exchange: str = "inline",
    slots: Sequence[Array] | None = None,
    local: Local | None = None,
    shard_gradients: ShardGradients | None = None,
    explain: bool = True,
) -> list[Comparison]:
    """Compare the weights and the optimizer's state after every step with the textbook's.

    Args:
        job: settled; its optimizer is the one that is checked.
        steps: of a run, one behind the other.
        where: as of `Comparison`.
        workers: of the run.
        exchange: of the run.
        slots: the optimizer's state before the first step, where the run did not begin with it.
        local: the job in this process.
        shard_gradients: gives every shard's part of a step's gradient, ``(shards, size)``, for the
            diagnosis alone; by default the reference's.
        explain: whether to note what a failure looks like, which takes longer than all else.
    """
    course = _course(job, steps, slots, local)
    compared = _compared(course, where)
    if not explain or all(each.verdict is not Verdict.FAIL for each in compared):
        return compared
    note = described(_diagnoses(course, workers, exchange, shard_gradients))
    return told_of(compared, note=note)


def diagnose_updates(
    job: Job,
    steps: Sequence[Step],
    *,
    workers: int = 1,
    exchange: str = "inline",
    slots: Sequence[Array] | None = None,
    local: Local | None = None,
    shard_gradients: ShardGradients | None = None,
) -> list[Diagnosis]:
    """Return what could be wrong with updates, the best explanation first; arguments as above.

    Empty where nothing deviates.
    """
    return _diagnoses(_course(job, steps, slots, local), workers, exchange, shard_gradients)


def _course(
    job: Job, steps: Sequence[Step], slots: Sequence[Array] | None, local: Local | None
) -> Course:
    found = local or Local(job)
    # with one thread, as ranks compute: with more, products differ in their last bits
    with threadpool_limits(limits=1, user_api="blas"):
        gradients = [found.analytic(s.before.parameters, s.number).gradient for s in steps]
    return Course(job, steps, gradients, slots)


def _change(step: Step) -> Array:
    found: Array = np.subtract(step.after.parameters, step.before.parameters, dtype=float)
    return found


def _error(found: Predicted) -> Array:
    assert found.change.error is not None
    return np.asarray(FACTOR * found.change.error)


def _compared(course: Course, where: str) -> list[Comparison]:
    tensors = course.job.network.all_tensors()
    name = course.job.experiment.optimizer
    found = []
    for step, wanted in zip(course.steps, course.predicted(), strict=True):
        done = f"= {name} by the book"
        at = f"{where}, step {step.number + 1}"
        found.append(
            compare(
                f"change of the weights {done}", "update", at, tensors,
                _change(step), wanted.change.value, _error(wanted),
            )
        )  # fmt: skip
        for slot, value in course.state(step).items():
            bounded = wanted.state[slot]
            assert bounded.error is not None
            found.append(
                compare(
                    f"{slot} {done}", "update", at, tensors,
                    value, bounded.value, FACTOR * bounded.error,
                )
            )  # fmt: skip
    return found


def _diagnoses(
    course: Course, workers: int, exchange: str, shard_gradients: ShardGradients | None
) -> list[Diagnosis]:
    book = course.predicted()
    weights, state = (f(course, book, book) for f in (_weights_beyond, _state_beyond))
    if not _size([*weights, *state]):
        return []
    at, wrong = _first_wrong(weights, state)
    so_far = course.steps[: at + 1]
    rightly = not weights[at].any()
    if never := unwritten(course.steps[at], wrong):
        return never
    if any(slot[wrong].any() for slot in course.steps[at].after.slots):
        stale = stale_buffers(so_far, wrong, moved_rightly=rightly)
        if stale:
            return stale
    partials = partials_of(course.job, course.steps, workers, shard_gradients)
    mistakes = slips(course.job, workers, [s.number for s in course.steps], partials)
    likely = ranked(_likely(course, book, mistakes))
    if not likely or likely[0].residual > EXACTLY:
        parts = areas(course.job, exchange, workers)
        norms = parts if EXCHANGES[exchange].lockstep else ()
        done = seen(course.job, course.steps, course.gradients, partials)
        factors = list(factor_slips(course.job, done, parts, norms))
        fitted: list[Callable[[], list[Diagnosis]]] = [
            lambda: _likely(course, book, factors),
            lambda: _searched(course, book, workers, mistakes),
        ]
        # a clipped gradient has a factor anyway; without clipping, rates are looked at first
        for each in fitted if course.job.experiment.clip_norm is not None else reversed(fitted):
            if not likely or likely[0].residual > EXACTLY:
                likely = ranked([*likely, *each()])
        if not likely or likely[0].residual > EXACTLY:
            given = given_gradient(course.job, done[: at + 1], workers, parts)
            likely = ranked([*likely, *given])
        if not likely and _size(state):
            likely = ranked(_likely(course, book, [*mistakes, *factors], of_state=True))
    if not likely:
        likely = stale_buffers(so_far, wrong, moved_rightly=rightly)
    if likely:
        return likely
    where = place(wrong, course.job.network.all_tensors(), areas(course.job, exchange, workers))
    return [_unexplained(course.steps[at], book[at], weights[at] > 0, where, at)]


def _likely(
    course: Course,
    book: Sequence[Predicted],
    mistakes: Sequence[Slip],
    *,
    of_state: bool = False,
) -> list[Diagnosis]:
    """Return what explains the weights, or the state where only that is wrong; best state first.

    With ``of_state`` only the state is looked at: the weights are what nothing leads to.
    """
    beyond, scale = _deviation(course, book)
    found: list[Diagnosis] = []
    if of_state:
        beyond, scale = _state_beyond, _size(_state_beyond(course, book, book))
    elif beyond is _weights_beyond:
        found = [*_untouched(course, book, scale), *_frozen_moved(course, book, scale)]
    tried = []
    for slip in mistakes:
        wanted = course.predicted(slip)
        left = Diagnosis(slip.kind, slip.sentence, _size(beyond(course, book, wanted)) / scale)
        tried.append((_size(_state_beyond(course, book, wanted)), left))
    # what explains the weights equally well may yet differ in the state
    found += [each for _, each in sorted(tried, key=lambda pair: pair[0])]
    return [each for each in found if each.residual <= EXPLAINS]


def _searched(
    course: Course, book: Sequence[Predicted], workers: int, mistakes: Sequence[Slip]
) -> list[Diagnosis]:
    """Return what explains the weights, or the state, with numbers that are fitted."""
    beyond, scale = _deviation(course, book)

    def measure(slip: Slip) -> Left:
        wanted = course.predicted(slip)
        state = _size(_state_beyond(course, book, wanted))
        left = [each / scale for each in beyond(course, book, wanted)]
        return Left(_size(left), state, np.sum(np.square(left), axis=0))

    run = Seen(
        course.job,
        workers,
        [s.number for s in course.steps],
        [np.asarray(s.before.parameters, float) for s in course.steps],
        [_change(s) for s in course.steps],
        course.predicted,
    )
    return [each for each in search(run, mistakes, measure) if each.residual <= FITTED]


def _deviation(course: Course, book: Sequence[Predicted]) -> tuple[Beyond, float]:
    """Return what deviates, the weights or else only the state, and by how much."""
    for beyond in (_weights_beyond, _state_beyond):
        size = _size(beyond(course, book, book))
        if size:
            break
    return beyond, size


def _first_wrong(weights: Sequence[Array], state: Sequence[Array]) -> tuple[int, Array]:
    """Return the first step after which anything is wrong, and which elements are."""
    per_step = len(state) // len(weights)
    for i, own in enumerate(weights):
        slots = state[i * per_step : (i + 1) * per_step]
        wrong = np.logical_or.reduce([own > 0, *(slot > 0 for slot in slots)])
        if wrong.any():
            return i, wrong
    return 0, np.zeros(len(weights[0]), bool)


def _weights_beyond(
    course: Course, book: Sequence[Predicted], wanted: Sequence[Predicted]
) -> list[Array]:
    """Return by how much each change lies outside of its tolerance, for each step."""
    return [
        _beyond(_change(s), w.change.value, np.maximum(_error(b), _error(w)))
        for s, b, w in zip(course.steps, book, wanted, strict=True)
    ]


def _state_beyond(
    course: Course, book: Sequence[Predicted], wanted: Sequence[Predicted]
) -> list[Array]:
    """Return the same of the optimizer's state."""
    found = []
    for step, own, other in zip(course.steps, book, wanted, strict=True):
        for slot, value in course.state(step).items():
            a, b = own.state[slot], other.state[slot]
            assert a.error is not None
            assert b.error is not None
            found.append(_beyond(value, b.value, FACTOR * np.maximum(a.error, b.error)))
    return found


def _beyond(found: Array, wanted: Array, tolerance: Array) -> Array:
    """Return by how many tolerances elements lie outside of theirs, at most 1e100."""
    with np.errstate(all="ignore"):
        difference = np.abs(found - wanted)
        ratio = np.where(difference <= tolerance, 0, difference / np.maximum(tolerance, 1e-300))
    return np.where(np.isnan(ratio), LIMIT, np.clip(ratio - 1, 0, LIMIT))


def _size(parts: Sequence[Array]) -> float:
    return float(np.sqrt(sum(float(np.sum(part * part)) for part in parts)))


def _unexplained(step: Step, book: Predicted, which: Array, where: str, before: int) -> Diagnosis:
    """Return where and by how much the first wrong update is off.

    Args:
        step: the first that is wrong.
        book: what it should have done.
        which: elements of the weights that are wrong, bool ``(size,)``.
        where: anything is wrong, in words.
        before: how many steps came before it.
    """
    behind = f" The {before} steps before it are right." if before else ""
    if not which.any():
        sentence = f"The optimizer's state is wrong after step {step.number + 1}, the weights are "
        return Diagnosis("optimizer-state", f"{sentence}not: {where}.{behind}", 1.0)
    found, wanted = _change(step)[which], book.change.value[which]
    factor = float(found @ wanted / (wanted @ wanted)) if wanted.any() else 0.0
    off = np.abs(found - factor * wanted) <= 1e-6 * np.abs(wanted) + _error(book)[which]
    times = f"{factor:.6g} times what it should be" if off.all() else "not what it should be"
    sentence = f"In step {step.number + 1} the update is {times}: {where}.{behind}"
    return Diagnosis("update", sentence, 1.0)


def _untouched(course: Course, book: Sequence[Predicted], scale: float) -> list[Diagnosis]:
    """Find elements that should have changed and did not."""
    beyond = _weights_beyond(course, book, book)
    still = [(_change(s) == 0) & (b > 0) for s, b in zip(course.steps, beyond, strict=True)]
    if not any(each.any() for each in still):
        return []
    left = _size([np.where(s, 0, b) for s, b in zip(still, beyond, strict=True)]) / scale
    numbers = [s.number for s, each in zip(course.steps, still, strict=True) if each.any()]
    steps = "step" + "s" * (len(numbers) > 1) + " " + ", ".join(map(str, numbers))
    should = [np.abs(b.change.value) > _error(b) for b in book]
    if all(np.array_equal(a, b) for a, b in zip(still, should, strict=True) if a.any()):
        what = (
            f"The weights are unchanged in {steps}: the update was applied to a copy, or skipped."
        )
        return [Diagnosis("update-to-copy", what, left)]
    places = place(np.logical_or.reduce(still), course.job.network.all_tensors(), ())
    what = f"A part of the weights is not updated in {steps}: {places}."
    return [Diagnosis("update-skipped", what, left)]


def _frozen_moved(course: Course, book: Sequence[Predicted], scale: float) -> list[Diagnosis]:
    """Find elements that should have stayed as they are and did not."""
    beyond = _weights_beyond(course, book, book)
    textbook = Textbook(course.job)
    fixed = ~textbook.trained & (textbook.averages == 0)
    moved = np.logical_or.reduce([fixed & (each > 0) for each in beyond])
    if not moved.any():
        return []
    left = _size([np.where(fixed, 0, each) for each in beyond]) / scale
    what = f"What is frozen was changed: {place(moved, course.job.network.all_tensors(), ())}."
    return [Diagnosis("frozen-changed", what, left)]
