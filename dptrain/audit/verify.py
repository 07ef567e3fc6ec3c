"""Does a run hold what its experiment says? Re-executed in one process, window by window.

A window reaches from one checkpoint to the next; the first begins where the run began, and the last
ends with the last step that anything is told of. What is recorded of any moment in it is compared
with what is found there.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from dptrain.arithmetic.digest import digest
from dptrain.arithmetic.platform import Arithmetic, arithmetic
from dptrain.audit.checks import Check, checks_after
from dptrain.audit.history import History
from dptrain.audit.replay import Replay
from dptrain.errors import CheckpointError, NonFiniteError
from dptrain.exchange.engine import TrainingState
from dptrain.machine.blas import one_blas_thread


class Window(NamedTuple):
    """Steps between two moments of a run.

    Attributes:
        begin: steps done before it.
        end: steps done after it.
        name: such as ``"best to last"``.
    """

    begin: int
    end: int
    name: str


@dataclass
class Verified:
    """A window that has been re-executed.

    Attributes:
        window: which.
        foreign: the first step in it, counted from 0, that was computed otherwise than here, or
            that goes on from such steps, and how; None where there is none.
        checks: what was compared, in the order of the steps.
    """

    window: Window
    foreign: tuple[int, Arithmetic] | None = None
    checks: list[Check] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether all that was recorded was found."""
        return all(each.same for each in self.checks)

    @property
    def differs(self) -> bool:
        """Whether something was not found that would have been, had the run done what it says."""
        return any(not each.same and not self.is_foreign(each) for each in self.checks)

    def is_foreign(self, check: Check) -> bool:
        """Return whether other arithmetic may be why a comparison failed."""
        return self.foreign is not None and check.step > self.foreign[0] and not check.within

    @property
    def decisive(self) -> Check | None:
        """The first comparison that failed; otherwise the last of weights, or of anything."""
        wrong = [each for each in self.checks if not each.same]
        weights = [each for each in self.checks if len(each.found) == 64]
        return next(iter([*wrong, *reversed(weights), *reversed(self.checks)]), None)

    def plain(self) -> dict[str, Any]:
        """Return the same as plain data."""
        decisive = self.decisive
        return self.window._asdict() | {
            "recorded": decisive.recorded if decisive else None,
            "found": decisive.found if decisive else None,
            "same": None if not (self.same or self.differs) else self.same,
            "made_on": str(self.foreign[1]) if self.foreign else None,
            "checks": [each.plain() for each in self.checks],
        }


@dataclass(frozen=True)
class Verification:
    """What a verification came to.

    Attributes:
        run: the folder.
        windows: that were re-executed.
        there: how many windows there are.
        seed: by which they were chosen; None where all of them were re-executed.
        damaged: what is wrong with checkpoints that cannot be read, by name.
        here: how the re-execution was computed.
        recorded: whether the run tells how it was.
    """

    run: Path
    windows: list[Verified]
    there: int
    seed: int | None
    damaged: dict[str, str]
    here: Arithmetic
    recorded: bool

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.first is None and not self.damaged

    @property
    def first(self) -> Check | None:
        """The first comparison that failed, and not because of other arithmetic if there is one."""
        failed = [(w.is_foreign(c), c) for w in self.windows for c in w.checks if not c.same]
        return min(failed, key=lambda each: each[0], default=(False, None))[1]

    @property
    def foreign(self) -> Arithmetic | None:
        """How steps were computed that cannot be judged here."""
        return next((w.foreign[1] for w in self.windows if w.foreign and not w.same), None)

    @property
    def inconclusive(self) -> bool:
        """Whether all that was not found may be so because of other arithmetic."""
        return not (self.same or self.damaged or any(each.differs for each in self.windows))

    def plain(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return {
            "run": str(self.run),
            "same": None if self.inconclusive else self.same,
            "seed": self.seed,
            "windows_there": self.there,
            "steps": sum(each.window.end - each.window.begin for each in self.windows),
            "first": self.first.plain() if self.first else None,
            "damaged": self.damaged,
            "windows": [each.plain() for each in self.windows],
        }


def windows_of(history: History) -> list[Window]:
    """Return the windows of a run, in order."""
    edges = sorted({0, *history.kept, history.end})
    names = {step: "/".join(each.name for each in kept) for step, kept in history.kept.items()}
    named = {0: "start", history.end: "end of the records"} | names
    return [Window(low, high, f"{named[low]} to {named[high]}") for low, high in pairwise(edges)]


def chosen(windows: Sequence[Window], count: int, seed: int) -> list[Window]:
    """Return so many windows, or all if there are fewer, chosen at random, in order."""
    draw = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    return sorted(draw.sample(windows, min(count, len(windows))))


def verify(
    history: History,
    replay: Replay,
    *,
    count: int | None = None,
    seed: int = 0,
    tell: Callable[[Verified], None],
) -> Verification:
    """Re-execute a run, or some windows of it.

    Args:
        history: of the run.
        replay: of the run.
        count: how many windows; all of them unless given.
        seed: chooses them.
        tell: is told each window that is done.

    Raises:
        DptrainError: the run's beginning is needed, but gone.
    """
    every = windows_of(history)
    picked = every if count is None else chosen(every, count, seed)
    done: list[Verified] = []
    state: TrainingState | None = None
    at = -1
    inherited: Arithmetic | None = None
    with one_blas_thread():
        here = arithmetic()
        for window in picked:
            each = Verified(window, history.foreign(here, window.begin, window.end))
            if state is None or at != window.begin:
                state, inherited = _begin(history, replay, each), None
            elif inherited:
                each.foreign = (window.begin, inherited)
            if state is not None:
                state, exact = _carry_out(history, replay, each, state)
                inherited = each.foreign[1] if each.foreign and not exact else None
            at = window.end
            done.append(each)
            tell(each)
    used = None if count is None else seed
    recorded = bool(history.stretches)
    return Verification(history.path, done, len(every), used, history.damaged, here, recorded)


def _begin(history: History, replay: Replay, into: Verified) -> TrainingState | None:
    """Return the state in which a window begins, and compare it with the records."""
    step = into.window.begin
    if step == 0:
        return replay.start()
    state = _kept_state(history, replay, step)
    if state is None:
        names = ", ".join(kept.name for kept in history.kept[step])
        problem = f"no checkpoint of step {step} can be read ({names})"
        into.checks.append(_problem(replay, step, "the beginning", problem))
        return None
    into.checks += checks_after(history, replay, step, state)
    return state


def _carry_out(
    history: History, replay: Replay, into: Verified, state: TrainingState
) -> tuple[TrainingState | None, bool]:
    """Re-execute a window.

    Returns:
        Where the next one begins, if that is known, and whether that is the run's own state.
    """
    window = into.window
    try:
        for step, loss in replay.steps(window.begin, window.end, state):
            into.checks += checks_after(history, replay, step, state, loss)
    except NonFiniteError as error:
        failed = _problem(replay, window.end, "the re-execution", str(error))
        into.checks.append(failed._replace(within=False))
        return None, False
    if all(each.same for each in into.checks if each.step == window.end):
        return state, True
    # The run went on with the weights that it recorded, so what comes next is judged from there.
    recorded = _recorded_state(history, replay, window.end)
    return recorded or state, recorded is not None


def _recorded_state(history: History, replay: Replay, step: int) -> TrainingState | None:
    """Return the state of a checkpoint whose weights are those of the record of its moment."""
    wanted = history.weights_told(step)
    for kept in history.kept.get(step, ()):
        try:
            state = replay.saved(kept)
        except CheckpointError:
            continue
        if wanted in (None, digest(state.parameters)):
            return state
    return None


def _kept_state(history: History, replay: Replay, step: int) -> TrainingState | None:
    """Return the same, or that of the first checkpoint that can be read."""
    if (state := _recorded_state(history, replay, step)) is not None:
        return state
    for kept in history.kept.get(step, ()):
        try:
            return replay.saved(kept)
        except CheckpointError:
            continue
    return None


def _problem(replay: Replay, step: int, what: str, problem: str) -> Check:
    epoch = step / replay.job.steps_per_epoch
    return Check(step, epoch, what, "", "", same=False, problem=problem, within=True)
