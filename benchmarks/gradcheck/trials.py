"""Every checker on right gradients, at kinks, and on every bug."""

import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gradcheck.bugs import BUGS, RELATIVE, beyond_the_kink, relative
from benchmarks.gradcheck.checkers.checker import Checker
from benchmarks.gradcheck.problems import KINDS, kinked, problem


class Share(NamedTuple):
    """So many of so many."""

    many: int
    of: int

    def __str__(self) -> str:
        return f"{100 * self.many / self.of:.0f}"


class Found(NamedTuple):
    """What came of a checker.

    Attributes:
        false_alarms: right gradients that it rejected.
        at_kink: right gradients at a kink that it rejected.
        beyond_kink: gradients outside of both slopes at a kink that it rejected.
        kills: wrong gradients that it rejected, by bug.
        seconds: for one right gradient, median.
        evaluations: of the function for that, median.
    """

    false_alarms: Share
    at_kink: Share
    beyond_kink: Share
    kills: dict[str, Share]
    seconds: float
    evaluations: float

    @property
    def smallest(self) -> float | None:
        """The smallest relative error of one entry that most trials of it and larger ones show."""
        seen = None
        for error in RELATIVE:
            share = self.kills[relative(error).name]
            if 2 * share.many < share.of:
                break
            seen = error
        return seen

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self._asdict() | {"smallest": self.smallest}


def trials(checkers: Sequence[Checker], clean: int, seeds: int) -> dict[str, Found]:
    """Run all.

    Args:
        checkers: that are compared.
        clean: right gradients of each kind of function; these are timed, the checkers in turn.
        seeds: functions of each kind for every bug, other than those.
    """
    alarms, seconds, evaluations = _clean(checkers, clean)
    kills = _kills(checkers, range(clean, clean + seeds))
    at_kink, beyond = _kinked(checkers, clean)
    return {
        c.name: Found(
            alarms[c.name],
            at_kink[c.name],
            beyond[c.name],
            kills[c.name],
            statistics.median(seconds[c.name]),
            statistics.median(evaluations[c.name]),
        )
        for c in checkers
    }


def _clean(
    checkers: Sequence[Checker], count: int
) -> tuple[dict[str, Share], dict[str, list[float]], dict[str, list[int]]]:
    rejected = {c.name: 0 for c in checkers}
    seconds: dict[str, list[float]] = {c.name: [] for c in checkers}
    evaluations: dict[str, list[int]] = {c.name: [] for c in checkers}
    for kind in KINDS:
        for c in checkers:  # what a checker does at its first call only
            first = problem(kind, 0)
            c.accepts(first, first.right)
        for seed in range(count):
            asked = problem(kind, seed)
            for c in checkers:
                before, started = asked.evaluations, time.perf_counter()
                rejected[c.name] += not c.accepts(asked, asked.right)
                seconds[c.name].append(time.perf_counter() - started)
                evaluations[c.name].append(asked.evaluations - before)
        _tell(f"right gradients, {kind}")
    of = count * len(KINDS)
    return {name: Share(n, of) for name, n in rejected.items()}, seconds, evaluations


def _kills(checkers: Sequence[Checker], seeds: range) -> dict[str, dict[str, Share]]:
    counts = {c.name: {bug.name: 0 for bug in BUGS} for c in checkers}
    for kind in KINDS:
        for seed in seeds:
            smooth = problem(kind, seed)
            smooth.remember()
            for number, bug in enumerate(BUGS):
                asked = smooth if bug.factor == 1 else smooth.times(bug.factor)
                wrong = bug.spoil(asked, np.random.default_rng([seed, number]))
                for c in checkers:
                    counts[c.name][bug.name] += not c.accepts(asked, wrong)
        _tell(f"bugs, {kind}")
    of = len(seeds) * len(KINDS)
    return {name: {bug: Share(n, of) for bug, n in found.items()} for name, found in counts.items()}


def _kinked(checkers: Sequence[Checker], count: int) -> tuple[dict[str, Share], dict[str, Share]]:
    right = {c.name: 0 for c in checkers}
    wrong = {c.name: 0 for c in checkers}
    for seed in range(count):
        asked = kinked(seed)
        asked.remember()
        for c in checkers:
            right[c.name] += not c.accepts(asked, asked.right)
            wrong[c.name] += not c.accepts(asked, beyond_the_kink(asked))
    _tell("kinks")
    shares = ({name: Share(n, count) for name, n in each.items()} for each in (right, wrong))
    return next(shares), next(shares)


def _tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} done: {what}", file=sys.stderr, flush=True)
