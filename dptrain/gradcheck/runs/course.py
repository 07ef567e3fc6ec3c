"""A small experiment to be trained as a whole, and what its run should come to.

That is computed in this process, and never written to a file.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dptrain.coordinator.initial_state import first_state, saved_weights
from dptrain.errors import NonFiniteError
from dptrain.exchange.engine import SplitScore, TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import SPLITS, Job
from dptrain.gradcheck.comparison import Array
from dptrain.gradcheck.distributed import copied
from dptrain.gradcheck.runs.states import WEIGHTS
from dptrain.gradcheck.subject import is_own
from dptrain.gradcheck.taken import job_on, taken, taken_weights, write_rows
from dptrain.own.network import OwnNetwork

# One row is held out for validation for every so many that are trained on.
HELD_OUT = 3
# Learning rates, as multiples of the experiment's own, and whether the held out rows have their own
# targets: whichever first makes a run's best weights neither the first nor the last. Steps as small
# as usual would change no answer within a few of them.
VARIATIONS = ((64, True), (64, False), (8, True), (1, True), (1, False))
# A network of more parameters takes too long for all of them.
LARGE, FEW = 50_000, 2


class Small(NamedTuple):
    """An experiment of a few rows, settled, with early stopping; and the folder of its data."""

    job: Job
    data: Path


class Course:
    """The course of a run as it should be.

    Attributes:
        job: of the run.
        end: steps of the whole run.
        losses: of every step, ``(end,)``.
        scores: of every evaluation, by the steps done, by split.
        digests: SHA-256 of the weights and of each tensor, by name, after 0, 1, 2 … steps.
    """

    def __init__(self, job: Job, moments: Sequence[int]) -> None:
        """Carry it out; states are kept at evaluations, and after some more numbers of steps.

        Raises:
            NonFiniteError: it cannot be carried out.
        """
        self.job, self.end = job, job.total_steps
        source = job.experiment.init_from
        self._start = copied(first_state(job, saved_weights(source) if source else None)[0])
        self.losses = np.full(self.end, np.nan)
        self.scores: dict[int, dict[str, SplitScore]] = {}
        self.digests: list[dict[str, str]] = []
        self._states: dict[int, TrainingState] = {}
        for done, engine in self._engines():
            tensors = job.network.views(engine.parameters)
            arrays = {WEIGHTS: engine.parameters, **tensors}
            self.digests.append({name: sha256(array) for name, array in arrays.items()})
            if evaluated := done and (done % job.steps_per_epoch == 0 or done == self.end):
                self.scores[done] = {name: engine.evaluate(name) for name in SPLITS}
            if evaluated or done in moments:
                self._states[done] = copied(engine.state())
        scores = [each.loss for of_all in self.scores.values() for each in of_all.values()]
        if not all(map(math.isfinite, scores)):
            raise NonFiniteError("an evaluation has a loss that is not finite")
        self.rewind()

    def rewind(self) -> None:
        """Have the user's own network hold what a run begins with, if it is one."""
        if isinstance(self.job.network, OwnNetwork):
            self.job.network.load(self._start.parameters)

    def state(self, step: int) -> TrainingState:
        """Return weights and optimizer state after so many steps, one of those that are kept."""
        return self._states[step]

    def states(self) -> Iterator[tuple[int, TrainingState]]:
        """Go through the run once more: steps done, and the state then, which changes."""
        for done, engine in self._engines():
            yield done, engine.state()

    def evaluated(self, step: int) -> int:
        """Return after how many steps the last evaluation was, in a run that has done so many."""
        return max((each for each in self.scores if each <= step), default=0)

    def best(self, step: int) -> tuple[int, float]:
        """Return when the validation was answered best so far, the first time, and how well."""
        merits = [(each, _merit(s["validation"])) for each, s in self.scores.items()]
        known = [each for each in merits if each[0] <= step]
        return max(known, key=lambda each: each[1], default=(0, math.nan))

    def waited(self, step: int) -> int:
        """Return how many evaluations there were after the best so far."""
        return sum(self.best(step)[0] < each <= step for each in self.scores)

    def worth(self) -> int:
        """Return how well this run shows which weights are the best: 0, 1 or 2.

        They should come after others that were worse, and be followed by others that are worse;
        and no step should leave the weights as they are.
        """
        if len({each[WEIGHTS] for each in self.digests}) <= self.end:
            return 0
        best, (first, *_, last) = self.best(self.end)[0], self.scores
        return 0 if best == last else 1 + (best > first)

    def _engines(self) -> Iterator[tuple[int, InlineEngine]]:
        begun = copied(self._start)
        engine = InlineEngine(self.job, begun.parameters, begun.slots)
        yield 0, engine
        for done in engine.train(0, self.end, lambda: False, 1):
            if np.isnan(self.losses[done.begin]):
                self.losses[done.begin] = done.loss
            yield done.end, engine


def _merit(score: SplitScore) -> float:
    return -score.loss if score.accuracy is None else score.accuracy


def sha256(values: Array) -> str:
    """Return the digest of an array's bytes, in hex."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def small(job: Job, folder: Path, steps: int, moments: Sequence[int]) -> tuple[Small, Course]:
    """Return an experiment like another one, of a few of its rows, and what it should come to.

    Its data go to a folder; it has so many steps; ``moments`` are as of `Course`.

    Raises:
        NonFiniteError: the experiment comes to no numbers, at whatever learning rate.
    """
    count = min(len(job.dataset.train), 2 * job.batch_size + max(1, job.shards - 2))
    held_out = max(1, count // HELD_OUT)
    settings: dict[str, Any] = {
        "validation": held_out / (count + held_out + 1),  # one row is neither of these
        "train_rows": count,
        "steps": steps,
        "epochs": None,
        "patience": steps,
    }
    found: tuple[Small, Course] | None = None
    trouble = NonFiniteError("no learning rate was tried")
    for factor, right in VARIATIONS[: FEW if job.network.size > LARGE else None]:
        data = folder / f"{factor} {right}"
        settings["lr"] = job.experiment.lr * factor
        order = np.arange(round((count + 1) / (1 - settings["validation"])))
        few = _written(job, data, order, None, settings)
        if not right and (held := few.dataset.validation.index) is not None:
            few = _written(job, data, order, held, settings)
        try:
            course = Course(few, moments)
        except NonFiniteError as error:
            trouble = error
            continue
        if found is None or course.worth() > found[1].worth():
            found = Small(few, data), course
        if course.worth() == 2:
            break
    if found is None:
        raise trouble
    return found


def _written(
    job: Job, folder: Path, order: Array, wrong: Array | None, settings: dict[str, Any]
) -> Job:
    """Return a job on some rows, of which some have wrong targets."""
    x, t = taken(job, order)
    if wrong is not None:
        t[wrong] = _others(job, t[wrong])
    test, weights = taken(job, order[:HELD_OUT]), taken_weights(job, order)
    write_rows(job, folder, (x, t), test, weights)
    return job_on(job, folder, **settings)


def _others(job: Job, targets: Array) -> Array:
    """Return targets that training leads away from, as far as any can be made up."""
    if is_own(job):  # whose loss may not take all numbers
        return np.roll(targets, 1, axis=0)
    if job.dataset.classes:
        return np.asarray((targets + 1) % job.dataset.classes)
    within = ((targets >= 0) & (targets <= 1)).all()
    return np.asarray(1 - targets if within else -targets)
