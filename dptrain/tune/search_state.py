"""The course of a search: which trial is next, and which one ends when. Pure: no clock, no process.

What a search comes to must not depend on how many trials run side by side, nor on which of them is
faster. So trials are numbered, begin in that order, and each is judged by the trials with lower
numbers only, at the same epoch; where one of those has not come that far, the judgement waits. The
search ends with the trial of the lowest number that reaches the goals: those above it are cut off,
those below it go on to their ends.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from dptrain.metrics.records import EpochRecord
from dptrain.tune.methods import Method
from dptrain.tune.objective import MEASURES, Goal, Metric
from dptrain.tune.pruning import Curve, falls_behind
from dptrain.tune.trial import Status, Trial, merits


class Decision(NamedTuple):
    """Whether a trial goes on after its last evaluation."""

    number: int
    goes_on: bool


class Planned(NamedTuple):
    """A trial to begin."""

    number: int
    parameters: dict[str, Any]


@dataclass
class Running:
    """A trial that has begun.

    Attributes:
        parameters: by name.
        records: its evaluations.
        waits: whether it waits for a decision.
        verdict: why it was told to end.
    """

    parameters: dict[str, Any]
    records: list[EpochRecord] = field(default_factory=list)
    waits: bool = False
    verdict: Literal["target", "pruned"] | None = None


class SearchState:
    """The state of a search. Tell it what happens; it tells what to do.

    Attributes:
        total: how many trials there are at most.
        metric: what ranks them.
        running: those that have begun and not ended.
        trials: those that have ended, by number.
    """

    def __init__(
        self,
        total: int,
        method: Method,
        metric: Metric,
        *,
        goals: Sequence[Goal] = (),
        prune: bool = False,
        behind: int | None = None,
        ended: Iterable[Trial] = (),
    ) -> None:
        """Begin, or go on.

        Args:
            total: trials.
            method: that chooses their parameters.
            metric: that ranks them.
            goals: that end the search once a trial meets all of them.
            prune: whether trials that fall behind are given up.
            behind: a trial is chosen by the results of those that are lower by at least so much,
                and waits for them; None where the method does not learn.
            ended: trials of an earlier part of the search.
        """
        self.total = total
        self.metric = metric
        self.running: dict[int, Running] = {}
        self.trials = {trial.number: trial for trial in ended}
        self._method = method
        self._goals = goals
        self._prune = prune
        self._behind = behind

    @property
    def winner(self) -> int | None:
        """The lowest number of a trial that has reached the goals, so far."""
        reached = [t.number for t in self.trials.values() if t.status == "target"]
        reached += [n for n, r in self.running.items() if r.verdict == "target"]
        return min(reached, default=None)

    def counted(self) -> list[Trial]:
        """Return the trials that have ended and belong to the search, by number."""
        last = self.winner or self.total
        return [trial for number, trial in sorted(self.trials.items()) if number <= last]

    def cut(self) -> list[int]:
        """Return which running trials no longer belong to the search."""
        winner = self.winner
        return [] if winner is None else [number for number in self.running if number > winner]

    def next(self) -> Planned | None:
        """Return the trial to begin now, if there is one; it counts as running from now on."""
        last = self.winner or self.total
        begun = self.trials.keys() | self.running.keys()
        number = next((n for n in range(1, last + 1) if n not in begun), None)
        if number is None:
            return None
        known = []
        if self._behind is not None:
            needed = range(1, number - self._behind + 1)
            if any(n not in self.trials for n in needed):
                return None
            known = [self.trials[n] for n in needed]
        earlier = [self._parameters(n) for n in range(1, number)]
        parameters = self._method.parameters(number, known, earlier)
        self.running[number] = Running(parameters)
        return Planned(number, parameters)

    def hear(self, number: int, record: EpochRecord) -> list[Decision]:
        """Take note of an evaluation; return what is decided now, for this trial or others."""
        running = self.running[number]
        running.records.append(record)
        running.waits = True
        return self._decide()

    def end(
        self,
        number: int,
        *,
        finished: bool,
        seconds: float = 0.0,
        failure: tuple[int, str] | None = None,
    ) -> tuple[Trial | None, list[Decision]]:
        """Take note of a trial's end.

        Args:
            number: of the trial.
            finished: whether it was trained to its end.
            seconds: that it took.
            failure: exit code and reason where it failed.

        Returns:
            The trial, or None where it was cut off; and what is decided now.
        """
        running = self.running[number]
        trial = None
        if number not in self.cut():
            status: Status | None = running.verdict
            if failure is not None:
                status = "failed"
            elif finished and status != "target":  # given up when there was nothing left to do
                status = "done"
            if status is not None:
                trial = self._trial(number, running, status, seconds, failure or (0, ""))
                self.trials[number] = trial
        del self.running[number]
        return trial, self._decide()

    def _decide(self) -> list[Decision]:
        found = []
        for number in sorted(self.running):
            running = self.running[number]
            goes_on = self._goes_on(number, running) if running.waits else None
            if goes_on is not None:
                running.waits = False
                found.append(Decision(number, goes_on))
        return found

    def _goes_on(self, number: int, running: Running) -> bool | None:
        """Return whether a trial goes on; None where that cannot be told yet."""
        winner = self.winner
        if winner is not None and number > winner:
            return False
        record = running.records[-1]
        if self._goals and all(goal.met(record) for goal in self._goals):
            running.verdict = "target"
            return False
        if not self._prune:
            return True
        lower = [n for n in range(1, number) if n in self.trials or n in self.running]
        if any(n in self.running and not self._reached(n, record.epoch) for n in lower):
            return None
        if falls_behind(self._merits(number), [self._merits(n) for n in lower]):
            running.verdict = "pruned"
            return False
        return True

    def _reached(self, number: int, epoch: float) -> bool:
        records = self.running[number].records
        return bool(records) and records[-1].epoch >= epoch

    def _merits(self, number: int) -> Curve:
        if number in self.trials:
            return merits(self.trials[number].curve, self.metric)
        return merits(self._curve(self.running[number]), self.metric)

    def _curve(self, running: Running) -> list[tuple[float, float]]:
        values = ((record.epoch, self.metric.of(record)) for record in running.records)
        return [(epoch, value) for epoch, value in values if value is not None]

    def _parameters(self, number: int) -> dict[str, Any]:
        if number in self.trials:
            return self.trials[number].parameters
        return self.running[number].parameters

    def _trial(
        self,
        number: int,
        running: Running,
        status: Status,
        seconds: float,
        failure: tuple[int, str],
    ) -> Trial:
        curve = self._curve(running)
        last = running.records[-1] if running.records else None
        best = max(curve, key=lambda point: self.metric.merit(point[1]), default=None)
        if status == "target" and curve:  # the goals were met here, all of them
            best = curve[-1]
        at = next((r for r in running.records if best and r.epoch == best[0]), None)
        return Trial(
            number=number,
            parameters=running.parameters,
            status=status,
            value=best[1] if best else None,
            epoch=best[0] if best else None,
            measures={name: getattr(at, name) for name in MEASURES if _has(at, name)},
            epochs=last.epoch if last else 0.0,
            steps=last.step if last else 0,
            seconds=seconds,
            digest=last.digest if last else None,
            curve=curve,
            exit_code=failure[0],
            message=failure[1],
        )


def _has(record: EpochRecord | None, name: str) -> bool:
    return record is not None and getattr(record, name) is not None
