"""What a whole run should come to: computed in this process, and never written to a file."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from dptrain.coordinator.beginning import first_state, saved_weights
from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare_arrays
from dptrain.data.targets import Task
from dptrain.exchange.engine import Score, State
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.code import MEMORY
from dptrain.experiment.job import SPLITS, Job
from dptrain.gradcheck.distributed import copied
from dptrain.gradcheck.lapses import Array
from dptrain.gradcheck.subject import is_own
from dptrain.own.network import OwnNetwork

# Rows of training and validation are prepared so that a third of them is held out, and one more is
# there than is trained on.
HELD_OUT = 3


class Small(NamedTuple):
    """An experiment of a few rows.

    Attributes:
        job: settled, with early stopping.
        data: folder of its prepared data.
    """

    job: Job
    data: Path


def small(job: Job, folder: Path, steps: int) -> Small:
    """Return an experiment like another one, of a few of its training rows and so many steps.

    The validation rows have wrong targets: as training goes on, they are answered worse. So the
    best weights are early ones, which later steps must leave alone.
    """
    e, train = job.experiment, job.dataset.train
    count = min(len(train), 2 * job.batch_size + max(1, job.shards - 2))
    held_out = max(1, count // HELD_OUT)
    order = np.arange(count + held_out + 1) % len(train)
    inputs, targets = train.take(order, job.dtype)
    x_test, t_test = train.take(order[:HELD_OUT], job.dtype)
    classes = job.dataset.classes
    task: Task = "classification" if classes else "regression"
    settings = replace(
        e,
        dataset=MEMORY,
        validation=held_out / len(order),
        test=0.0,
        train_rows=count,
        steps=steps,
        epochs=None,
        patience=steps,
        min_improvement=0.0,
    )

    def prepared(t: Array, where: Path) -> Job:
        # one-hot, since some classes may have no training row
        rows = [np.eye(classes)[each] if classes > 1 else each for each in (t, t_test)]
        prepare_arrays(
            where, x_train=inputs, t_train=rows[0], x_test=x_test, t_test=rows[1],
            dtype=e.dtype, task=task,
        )  # fmt: skip
        dataset = open_dataset(
            where, validation=settings.validation, test=0, seed=e.seed, train_rows=count
        )
        return Job(replace(settings, dataset_digest=dataset.digest), dataset, job.origin)

    held = prepared(targets, folder / "right").dataset.validation.index
    targets[held] = _wrong(job, targets[held])
    return Small(prepared(targets, folder / "data"), folder / "data")


def _wrong(job: Job, targets: Array) -> Array:
    """Return targets that training leads away from, as far as any can be made up."""
    if is_own(job):  # whose loss may not take all numbers
        return np.roll(targets, 1, axis=0)
    if job.dataset.classes:
        return (targets + 1) % job.dataset.classes
    within = ((targets >= 0) & (targets <= 1)).all()
    found: Array = 1 - targets if within else -targets
    return found


class Course:
    """The course of a run as it should be.

    Attributes:
        job: of the run.
        end: steps of the whole run.
        losses: of every step, ``(end,)``.
        scores: of every evaluation, by the steps done, by split.
        digests: SHA-256 of the weights after so many steps, from 0 on.
    """

    def __init__(self, job: Job, moments: Sequence[int]) -> None:
        """Carry it out.

        Args:
            job: settled.
            moments: after which steps states are kept, beside those at evaluations.

        Raises:
            NonFiniteError: it cannot be carried out.
        """
        self.job = job
        self.end = job.total_steps
        source = job.experiment.init_from
        self._start = copied(first_state(job, saved_weights(source) if source else None)[0])
        self.losses = np.full(self.end, np.nan)
        self.scores: dict[int, dict[str, Score]] = {}
        self.digests: list[str] = []
        self._states: dict[int, State] = {}
        for done, engine in self._engines():
            self.digests.append(sha256(engine.parameters))
            if evaluated := done and (done % job.steps_per_epoch == 0 or done == self.end):
                self.scores[done] = {name: engine.evaluate(name) for name in SPLITS}
            if evaluated or done in moments:
                self._states[done] = copied(engine.state())

    def rewind(self) -> None:
        """Have the user's own network hold what a run begins with, if it is one."""
        if isinstance(self.job.network, OwnNetwork):
            self.job.network.load(self._start.parameters)

    def state(self, step: int) -> State:
        """Return weights and optimizer state after so many steps, one of those that are kept."""
        return self._states[step]

    def states(self) -> Iterator[tuple[int, State]]:
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
        return max(known, key=lambda each: each[1], default=(0, np.nan))

    def _engines(self) -> Iterator[tuple[int, InlineEngine]]:
        begun = copied(self._start)
        engine = InlineEngine(self.job, begun.parameters, begun.slots)
        yield 0, engine
        for done in engine.train(0, self.end, lambda: False, 1):
            if np.isnan(self.losses[done.begin]):
                self.losses[done.begin] = done.loss
            yield done.end, engine


def _merit(score: Score) -> float:
    return -score.loss if score.accuracy is None else score.accuracy


def sha256(values: Array) -> str:
    """Return the digest of an array's bytes, in hex."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
