"""The one-step oracle: what an optimizer makes of its gradient, against the textbook.

The gradient that a step was given is computed here, from the run's own weights before the step; it
is the same to the last bit whoever computes it. The state of the optimizer is the textbook's own,
kept from the first step on, so that a run that loses its state does not agree from then on.

Compared is the change of the weights, not the weights: that tells how small a mistake of the update
would have been seen. What explains a deviation is searched among the known mistakes first, then
among fits; what comes later has more numbers that are free, and explains a little more by chance,
so it is asked only where nothing simpler explains everything.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Array, Comparison, compare, told_of
from dptrain.gradcheck.diagnosis import (
    EXPLAINS,
    Diagnosis,
    Mistake,
    described,
    ranked,
    safely,
    weighed,
)
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.hypotheses.areas import Area, areas, place
from dptrain.gradcheck.hypotheses.buffers import stale_buffers, unwritten
from dptrain.gradcheck.updates.course import Course, course_of, room_of, size_of
from dptrain.gradcheck.updates.factors import factors, given_gradient
from dptrain.gradcheck.updates.fits import constants, fits
from dptrain.gradcheck.updates.mistakes import Known, known_mistakes
from dptrain.gradcheck.updates.numbers import EXACTLY, named_factor
from dptrain.gradcheck.updates.rates import epoch_length, scaled
from dptrain.gradcheck.updates.textbook import Recipe, spread
from dptrain.gradcheck.verdict import Verdict

# What an explanation may leave, and all explanations of one sort.
Stage = tuple[float, Callable[[], Iterable[Known]]]

# What leaves no more than this explains everything; right explanations lie within the tolerance of
# rounding and leave nothing, but for numbers found by a search.
EVERYTHING = 1e-5
# With numbers that are free, much can be explained by half: such an explanation must leave less.
FITTED = 1e-3
# Elements times steps beyond which mistakes are not tried in parts of the steps or together with
# others, which takes as long as everything else several times over.
AFFORDABLE = 1_000_000


def check_updates(
    job: Job,
    steps: Sequence[Step],
    where: str,
    *,
    workers: int = 1,
    exchange: str = "inline",
    slots: Sequence[Array] | None = None,
    local: Local | None = None,
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
        explain: whether to note what a failure looks like, which takes longer than all else.
    """
    run = course_of(job, steps, workers, slots, local)
    compared = _compared(run, where)
    if not explain or all(each.verdict is not Verdict.FAIL for each in compared):
        return compared
    return told_of(compared, note=described(_diagnoses(run, exchange)))


def diagnose_updates(
    job: Job,
    steps: Sequence[Step],
    *,
    workers: int = 1,
    exchange: str = "inline",
    slots: Sequence[Array] | None = None,
    local: Local | None = None,
) -> list[Diagnosis]:
    """Return what could be wrong with updates, the best explanation first; arguments as above.

    Empty where nothing deviates.
    """
    return _diagnoses(course_of(job, steps, workers, slots, local), exchange)


def _compared(run: Course, where: str) -> list[Comparison]:
    done = f"= {run.job.experiment.optimizer} by the book"
    found = []
    for step, change, wanted in zip(run.steps, run.changes, run.right, strict=True):
        at, state = f"{where}, step {step.number + 1}", run.state(step.after)
        pairs = [("change of the weights", change, wanted.change)]
        pairs += [(name, state[name], wanted.state[name]) for name in state]
        for name, value, book in pairs:
            found.append(
                compare(
                    f"{name} {done}", "update", at, run.tensors, value, book.value, room_of(book)
                )
            )
    return found


def _diagnoses(run: Course, exchange: str) -> list[Diagnosis]:
    weights, state = run.deviation
    wrong = (weights > 0) | np.any(state > 0, axis=1)
    if not wrong.any():
        return []
    at = int(wrong.any(axis=1).argmax())
    rightly, so_far = not weights[at].any(), run.steps[: at + 1]
    if never := unwritten(run.steps[at], wrong[at]):
        return never
    if any(slot[wrong[at]].any() for slot in run.steps[at].after.slots):
        stale = stale_buffers(so_far, wrong[at], moved_rightly=rightly)
        if stale:
            return stale
    parts = areas(run.job, exchange, run.workers)
    likely = _searched(run, at, parts, parts if EXCHANGES[exchange].lockstep else ())
    likely = likely or stale_buffers(so_far, wrong[at], moved_rightly=rightly)
    return likely or [_unexplained(run, at, place(wrong[at], run.tensors, parts))]


def _searched(
    run: Course, at: int, parts: Sequence[Area], slices: Sequence[Area]
) -> list[Diagnosis]:
    """Return what explains a deviation, the best first.

    Args:
        run: that was seen.
        at: the place of the first step that is wrong.
        parts: that are updated one by one.
        slices: whose norms are computed one by one.
    """
    rows = [*known_mistakes(run)]
    fitted: list[Known] = []

    def numbers() -> list[Known]:
        fitted.extend(fits(run))
        return fitted

    read: Stage = (EXPLAINS, lambda: factors(run, parts, slices))
    stages: list[Stage] = [
        (EXPLAINS, lambda: rows),
        (FITTED, numbers),
        (FITTED, lambda: _in_tensors(run, [*rows, *fitted])),
    ]
    if run.changes.size <= AFFORDABLE:
        stages += [
            (FITTED, lambda: _in_parts(run, at, rows)),
            (FITTED, lambda: _with_factor(run, rows)),
            (FITTED, lambda: constants(run)),
        ]
    # a clipped gradient has a factor anyway; without clipping, rates are looked at first
    stages.insert(1 if run.job.experiment.clip_norm is not None else len(stages), read)
    likely = ranked(each for each in _in_places(run) if each.residual <= EXPLAINS)
    for most, stage in stages:
        if likely and likely[0].residual <= EVERYTHING:
            return likely
        found = weighed(safely(stage()), run.left)
        likely = ranked([*likely, *(each for each in found if each.residual <= most)])
    if not likely or likely[0].residual > EVERYTHING:
        likely = ranked([*likely, *safely(given_gradient(run, at, parts))])
    return likely


def _only(where: str, each: Known, change: Recipe) -> Known:
    """Return a mistake that is made in some place only."""
    said = each.sentence
    if not said[1:2].isupper():  # abbreviations stay as they are
        said = said[0].lower() + said[1:]
    return Mistake(each.kind, f"Only in {where}: {said}", change)


def _in_tensors(run: Course, mistakes: Sequence[Known]) -> Iterator[Known]:
    """Yield mistakes that are made only in the tensors that deviate; rules go by element."""
    deviates = np.any(run.deviation[0] > 0, axis=0)
    own = [t for t in run.tensors if t.trained and deviates[t.start : t.stop].any()]
    if not own or len(own) == sum(t.trained for t in run.tensors):
        return
    names = [t.name for t in own]
    elements = spread(run.tensors, len(deviates), lambda t: t.name in names) > 0
    for each in mistakes:
        change = replace(each.change, elsewhere=run.book, elements=elements)
        yield _only(", ".join(names), each, change)


def _in_parts(run: Course, at: int, mistakes: Sequence[Known]) -> Iterator[Known]:
    """Yield every mistake in a part of the steps only."""
    numbers, period, warm = run.numbers, epoch_length(run.job), run.job.experiment.warmup
    parts: list[tuple[str, Callable[[int], bool]]] = [
        ("the steps that begin an epoch", lambda n: n % period == 0),
        ("the steps that do not begin an epoch", lambda n: n % period > 0),
        ("the last steps of epochs", lambda n: n % period == period - 1),
        ("all but the last steps of epochs", lambda n: n % period != period - 1),
        ("every second step", lambda n: n % 2 == 1),
        ("every second step", lambda n: n % 2 == 0),
        ("the first step", lambda n: n == numbers[0]),
        ("the steps after the first", lambda n: n > numbers[0]),
        ("the steps behind the first epoch", lambda n: n >= period),
        ("the warm-up", lambda n: n < warm),
        ("the steps behind the warm-up", lambda n: n >= warm),
    ]
    known = {frozenset(numbers)}
    for where, of in parts:
        steps = frozenset(n for n in numbers if of(n))
        # a mistake that is not made in the first wrong step does not explain it
        if steps not in known and numbers[at] in steps:
            known.add(steps)
            for each in mistakes:
                if each.change.keeps is None:
                    yield _only(where, each, replace(each.change, elsewhere=run.book, steps=steps))


def _with_factor(run: Course, mistakes: Sequence[Known]) -> Iterator[Known]:
    """Yield every mistake together with another learning rate, which often comes with it."""
    for each in mistakes:
        factor = np.nan
        with contextlib.suppress(Exception):  # the other mistakes are tried all the same
            factor = run.factor(run.values(each.change), ..., run.book.trained)
        if factor > 0 and abs(factor - 1) > EVERYTHING:  # no two mistakes that are none together
            times = named_factor(run.job, run.workers, factor)
            change = replace(each.change, rates=scaled(each.change.rates, factor))
            sentence = f"{each.sentence} And the learning rate is {times}."
            yield Mistake(each.kind, sentence, change)


def _unexplained(run: Course, at: int, where: str) -> Diagnosis:
    """Return where and by how much the first wrong update is off.

    Args:
        run: that was seen.
        at: the place of the first step that is wrong.
        where: which elements are, in words.
    """
    behind = f" The {at} steps before it are right." if at else ""
    which, number = run.deviation[0][at] > 0, run.numbers[at] + 1
    if not which.any():
        sentence = f"The optimizer's state is wrong after step {number}, the weights are not: "
        return Diagnosis("optimizer-state", f"{sentence}{where}.{behind}", 1.0)
    change = run.right[at].change
    found, wanted = run.changes[at][which], change.value[which]
    factor = float(found @ wanted / (wanted @ wanted)) if wanted.any() else 0.0
    room = EXACTLY * np.abs(wanted) + room_of(change)[which]
    same = (np.abs(found - factor * wanted) <= room).all()
    times = f"{factor:.6g} times what it should be" if same else "not what it should be"
    return Diagnosis("update", f"In step {number} the update is {times}: {where}.{behind}", 1.0)


def _in_places(run: Course) -> Iterator[Diagnosis]:
    """Yield what is wrong where weights stay as they were, or where frozen ones do not."""
    off = run.deviation[0]
    still = (run.changes == 0) & (off > 0)
    own = still.any(axis=1)
    if own.any():
        numbers = [n for n, each in zip(run.numbers, own, strict=True) if each]
        steps = "step" + "s" * (len(numbers) > 1) + " " + ", ".join(map(str, numbers))
        should = np.array([np.abs(each.change.value) > room_of(each.change) for each in run.right])
        kind, what = "update-skipped", f"A part of the weights is not updated in {steps}: "
        what += f"{place(still.any(axis=0), run.tensors, ())}."
        trained = np.ix_(own, run.book.trained)
        if np.array_equal(still[trained], should[trained]):
            kind, what = "update-to-copy", f"The weights are unchanged in {steps}: the update was "
            what += "applied to a copy, or skipped."
        yield Diagnosis(kind, what, size_of(off[~still]) / size_of(off))
    fixed = ~run.book.trained & (run.book.averaging == 0)
    moved = fixed & (off > 0).any(axis=0)
    if moved.any():
        what = f"What is frozen was changed: {place(moved, run.tensors, ())}."
        left = size_of(off[:, ~fixed]) / size_of(off)
        yield Diagnosis("frozen-changed", what, left)
