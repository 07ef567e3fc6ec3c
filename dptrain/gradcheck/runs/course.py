"""What a whole run should come to: computed in this process, and never written to a file."""

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np

from dptrain.coordinator.beginning import first_state, saved_weights
from dptrain.errors import NonFiniteError
from dptrain.exchange.engine import Score, State
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import SPLITS, Job
from dptrain.gradcheck.distributed import copied
from dptrain.gradcheck.runs.lapses import Array
from dptrain.own.network import OwnNetwork


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
        scores = [each.loss for of_all in self.scores.values() for each in of_all.values()]
        if not all(map(math.isfinite, scores)):
            raise NonFiniteError("an evaluation has a loss that is not finite")
        self.rewind()

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
        return max(known, key=lambda each: each[1], default=(0, math.nan))

    def waited(self, step: int) -> int:
        """Return how many evaluations there were after the best so far."""
        return sum(self.best(step)[0] < each <= step for each in self.scores)

    def worth(self) -> int:
        """Return how well this run shows which weights are the best: 0, 1 or 2.

        They should come after others that were worse, and be followed by others that are worse;
        and no step should leave the weights as they are.
        """
        if len(set(self.digests)) <= self.end:
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


def _merit(score: Score) -> float:
    return -score.loss if score.accuracy is None else score.accuracy


def sha256(values: Array) -> str:
    """Return the digest of an array's bytes, in hex."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
