"""When ranks arrive, and how many steps they are ordered at once, must change nothing.

A run that is ordered to carry out many steps at once, as training does, prepares each while the one
before is under way; one whose workers are held up at random meets them in any order. Both are
compared bit by bit with this process alone, which carries out one step after the other. Ranks that
share memory wait for each other by events in the one, in the other as in training.
"""

import signal
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dptrain.exchange.engine import Engine, TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry, told_of
from dptrain.gradcheck.distributed import Way, copied, engine
from dptrain.gradcheck.runs.states import equal_states
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Crew, Program

# Steps of the run that is left alone, and how many are ordered at once while workers are held up.
STEPS, AT_ONCE = 24, 8
# Losses are reported so often.
EVERY = 3
HOLD_UPS = 30
# A worker is held up for at most so many seconds, and then left alone: several steps of a small
# network each.
HELD, LEFT = 0.005, 0.002
MOST_STEPS = 2000


class Carried(NamedTuple):
    """A run at its end.

    Attributes:
        steps: that were done.
        losses: as reported, by step.
        state: after them.
    """

    steps: int
    losses: dict[int, float]
    state: TrainingState


def check_order(
    job: Job,
    data: Path,
    way: Way,
    state: TrainingState,
    *,
    seed: int = 0,
    worker: Program = WORKER,
) -> list[Comparison]:
    """Compare runs of many steps at once, left alone and held up, with this process alone.

    Empty inline. Of one worker, who waits for nobody, only the run that is left alone. Signals hold
    up the processes; the run goes on until there were enough of them.

    Args:
        job: settled.
        data: folder of its prepared data.
        way: exchange and workers, which are started twice.
        state: to begin with.
        seed: of when and whom to hold up.
        worker: as of `dptrain.gradcheck.distributed.engine`.
    """
    if not EXCHANGES[way.exchange].workers:
        return []

    def run(at_once: int = STEPS) -> Carried:
        with engine(job, data, way, state, worker=worker, barrier="events") as found:
            return _carried(found, at_once)

    name = f"{STEPS} steps ordered at once = one by one in this process"
    alone, found = _alone(job, state, STEPS), run()
    compared = _compared(job, name, "plan", way, found, alone)
    if any(each.verdict is Verdict.FAIL for each in compared):
        edge, note = _cause(alone, found, run(), run(at_once=1))
        return [each._replace(edge=edge, note=note) for each in compared]
    if way.workers == 1:
        return compared
    trouble = Trouble(np.random.default_rng(seed))
    with engine(job, data, way, state, worker=worker, joined=trouble.begin) as workers:
        try:
            found = _carried(workers, AT_ONCE, trouble)
        finally:
            trouble.end()
    name = "workers held up at random = one by one in this process"
    note = (
        f"Workers were held up {trouble.count} times in {found.steps} steps. What is computed "
        "depends on who arrives first: a race."
    )
    held_up = _compared(job, name, "order", way, found, _alone(job, state, found.steps))
    return compared + told_of(held_up, note=note)


def _cause(alone: Carried, found: Carried, again: Carried, single: Carried) -> tuple[str, str]:
    """Return the edge that a run of many steps at once fails by, and why."""
    if not _alike(found, again):
        return "order", "The same run comes to something else each time: a race."
    if _alike(single, alone):
        return "plan", (
            "The same steps are right if they are ordered one by one: what is prepared or kept "
            "from one step to the next is to blame."
        )
    return "plan", "One by one, the steps are wrong as well."


def _alike(a: Carried, b: Carried) -> bool:
    states = [[each.state.parameters, *each.state.slots] for each in (a, b)]
    common = a.losses.keys() & b.losses.keys()
    same = all(np.array_equal(x, y, equal_nan=True) for x, y in zip(*states, strict=True))
    return same and all(a.losses[step] == b.losses[step] for step in common)


def _carried(found: Engine, at_once: int, trouble: "Trouble | None" = None) -> Carried:
    """Carry out steps, so many at once; with trouble, as long as there is too little of it."""
    losses: dict[int, float] = {}
    done = 0
    while done < STEPS if trouble is None else trouble.count < HOLD_UPS and done < MOST_STEPS:
        end = done + at_once
        losses |= {each.end - 1: each.loss for each in found.train(done, end, bool, EVERY)}
        done = end
    return Carried(done, losses, copied(found.state()))


def _alone(job: Job, state: TrainingState, count: int) -> Carried:
    begun = copied(state)
    found = InlineEngine(job, begun.parameters, list(begun.slots))
    losses = {each.end - 1: each.loss for each in found.train(0, count, bool, 1)}
    return Carried(count, losses, copied(found.state()))


def _compared(
    job: Job, name: str, edge: str, way: Way, found: Carried, wanted: Carried
) -> list[Comparison]:
    where, steps = f"{way}, step {found.steps}", sorted(found.losses)
    tensor = entry("losses", (len(steps),))
    seen, right = (np.array([each.losses[s] for s in steps]) for each in (found, wanted))
    return [
        *equal_states(job, name, edge, where, found.state, wanted.state),
        compare(f"losses {name}", edge, where, [tensor], seen, right, 0.0),
    ]


class Trouble:
    """Stops and continues worker processes, in a thread of its own.

    Attributes:
        count: how often it has.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.count = 0
        self._random = random
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, crew: Crew) -> None:
        """Begin with these workers."""
        workers = list(crew.workers)

        def disturb() -> None:
            while not self._over.is_set():
                held = workers[self._random.integers(len(workers))]
                held.signal_group(signal.SIGSTOP)
                time.sleep(self._random.random() * HELD)
                held.signal_group(signal.SIGCONT)
                self.count += 1
                time.sleep(self._random.random() * LEFT)

        self._thread = threading.Thread(target=disturb, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Leave the workers alone: all of them run again."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
