"""Where do two runs part? By their records, then by re-executing both, step by step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dptrain.arithmetic.platform import Arithmetic, arithmetic
from dptrain.audit.history import History
from dptrain.audit.lockstep import (
    Divergence,
    Side,
    Stray,
    first_difference,
    same_state,
    unlike_networks,
    unlike_states,
)
from dptrain.audit.records import (
    RunComparison,
    SettingDifference,
    compare_records,
    differing_settings,
    last_common_state,
)
from dptrain.audit.replay import Replay
from dptrain.errors import DataError
from dptrain.machine.blas import one_blas_thread
from dptrain.own.origin import Origin

# Settings that decide how far a run goes, or where something lies, and no step of it.
LENGTHS = {"epochs", "steps", "patience", "min_improvement", "dataset", "init_from"}


@dataclass(frozen=True)
class Bisection:
    """Where two runs part.

    Attributes:
        runs: their folders.
        settings: that differ.
        records: what the folders tell.
        begin: the step from which both were re-executed; None where they were not.
        end: how many steps were done then.
        finding: what the re-executions compute differently first.
        strays: runs that recorded something else than they compute.
        foreign: runs that recorded something else, but may have computed it on their arithmetic.
        here: how the re-executions were computed.
        note: why nothing was re-executed, where records alone do not decide.
    """

    runs: tuple[Path, Path]
    settings: list[SettingDifference]
    records: RunComparison
    begin: int | None = None
    end: int | None = None
    finding: Divergence | None = None
    strays: tuple[Stray, ...] = ()
    foreign: tuple[tuple[Stray, Arithmetic], ...] = ()
    here: Arithmetic | None = None
    note: str = ""

    @property
    def same(self) -> bool:
        """Whether nothing differs, as far as that is known."""
        known = self.finding or self.strays or self.foreign
        return not (known or self.records.first or self.records.damaged)

    @property
    def inconclusive(self) -> bool:
        """Whether nothing is known to differ, but not all could be looked at, or looked at here."""
        if self.foreign:
            return not (self.finding or self.strays or self.records.damaged)
        return self.same and bool(self.note)

    def plain(self) -> dict[str, Any]:
        """Return the same as plain data."""
        first = self.records.first
        return {
            "runs": list(map(str, self.runs)),
            "same": None if self.inconclusive else self.same,
            "settings": [each._asdict() for each in self.settings],
            "compared": self.records.compared,
            "until": self.records.until,
            "recorded": first._asdict() if first else None,
            "damaged": list(self.records.damaged),
            "begin": self.begin,
            "end": self.end,
            "finding": self.finding.plain() if self.finding else None,
            "strays": [each.plain() for each in self.strays],
            "foreign": [each.plain() | {"made_on": str(made)} for each, made in self.foreign],
            "note": self.note,
        }


def bisect(
    one: History, other: History, origin: Origin | None = None, data: str | None = None
) -> Bisection:
    """Return where two runs part.

    Nothing is re-executed where their records agree in all that both tell, that reaches to the
    weights with which the shorter run ends, and no setting differs that decides a step: of two such
    runs one cannot have computed what its experiment says.

    Args:
        one: run.
        other: run.
        origin: where a network of the user's own comes from.
        data: where the data set lies, that of both, unless it is where the runs found it.

    Raises:
        UsageError: the network is code that the user has not named.
        DptrainError: what one of the runs began with is needed, but gone.
    """
    runs = (one.path, other.path)
    settings = differing_settings(one.phases[-1][1], other.phases[-1][1])
    records = compare_records(one, other)
    decisive = {each.name for each in settings} - LENGTHS
    agree = records.first is None and records.until == min(one.end, other.end)
    if agree and not decisive:
        return Bisection(runs, settings, records)
    try:
        replays = Replay(one, origin, data), Replay(other, origin, data)
    except DataError as error:
        if data is not None:
            raise
        return Bisection(runs, settings, records, note=str(error))
    if unlike := unlike_networks(*replays):
        return Bisection(runs, settings, records, finding=unlike)
    before = records.first.step if records.first else one.end + 1
    kept = None if agree else last_common_state(one, other, before)
    begin = kept.step if kept else 0
    with one_blas_thread():
        states = [each.saved(kept) if kept else each.start() for each in replays]
        sides = (
            Side(one, replays[0], states[0], begin),
            Side(other, replays[1], states[1], begin),
        )
        if begin == 0 and (unlike := unlike_states(replays[0].job.network, sides, 0)):
            return Bisection(runs, settings, records, 0, 0, unlike)
        end, finding = _lockstep(sides, begin)
        here = arithmetic()
    strays: list[Stray] = []
    foreign: list[tuple[Stray, Arithmetic]] = []
    for run, side in enumerate(sides):
        if side.stray is None:
            continue
        stray = Stray(run, side.agreed, side.stray)
        elsewhere = side.history.foreign(here, begin, side.stray.step)
        if elsewhere is None or side.stray.within:
            strays.append(stray)
        else:
            foreign.append((stray, elsewhere[1]))
    return Bisection(
        runs, settings, records, begin, end, finding, tuple(strays), tuple(foreign), here
    )


def _lockstep(sides: tuple[Side, Side], begin: int) -> tuple[int, Divergence | None]:
    """Re-execute both runs until they part, and on to where both have recorded something.

    Returns:
        How many steps are done, and what differs.
    """
    finding: Divergence | None = None
    end = min(each.history.end for each in sides)
    for step in range(begin, end):
        went_on = [each.advance() for each in sides]
        if finding is None and not all(went_on):
            return step, None if not any(went_on) else first_difference(sides, step)
        if finding is None and not same_state(sides[0].state, sides[1].state):
            finding = first_difference(sides, step)
        apart = finding is not None or any(each.stray for each in sides)
        if not all(went_on) or (apart and all(step + 1 in each.history.told for each in sides)):
            return step + 1, finding
    return end, finding
