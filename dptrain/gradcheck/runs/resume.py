"""A run that was stopped and read back from its checkpoint, against one that was not."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dptrain.exchange.engine import State
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Step, Way, engine, steps
from dptrain.gradcheck.report import Failure, explained
from dptrain.gradcheck.runs.lapses import arrays_of, lapses
from dptrain.gradcheck.runs.went_on import went_on
from dptrain.gradcheck.states import equal_states
from dptrain.gradcheck.updates.one_step import diagnose_updates
from dptrain.launch.local import WORKER, Program
from dptrain.trained import flat_parameters


def check_resume(
    job: Job,
    data: Path,
    way: Way,
    state: State,
    *,
    stop: int = 3,
    end: int = 5,
    worker: Program = WORKER,
    timeout: float = 30.0,
) -> Iterator[tuple[Comparison, Callable[[], Failure]]]:
    """Compare weights and optimizer state of both, bit by bit.

    Args:
        job: settled.
        data: folder of its prepared data.
        way: exchange and workers, which are started three times.
        state: to begin with.
        stop: the run is stopped after so many steps. An odd number: what is kept twice, for even
            and for odd steps, begins with the second.
        end: both runs end after so many.
        worker: as of `dptrain.gradcheck.distributed.engine`.
        timeout: likewise.

    Yields:
        Each comparison, with what says why it failed.
    """

    def run(begun: State, first: int, last: int) -> list[Step]:
        with engine(job, data, way, begun, first, worker=worker, timeout=timeout) as found:
            return list(steps(found, first, last))

    whole = run(state, 0, end)
    part = run(state, 0, stop)
    read = _through_a_file(job, part[-1].after, stop)
    resumed = run(read, stop, end)
    name = f"resumed after step {stop} = not interrupted"

    def explain() -> list[Diagnosis]:
        return _explained(job, way, whole, part, read, resumed)

    for comparison in equal_states(
        job, name, "resume", f"{way}, step {end}", resumed[-1].after, whole[-1].after
    ):
        yield comparison, partial(explained, comparison, explain)


def _explained(
    job: Job,
    way: Way,
    whole: Sequence[Step],
    part: Sequence[Step],
    read: State,
    resumed: Sequence[Step],
) -> list[Diagnosis]:
    """Return what was lost: on the way through the file, or when the run went on."""
    stop = len(part)

    def course() -> Iterator[tuple[int, State]]:
        yield 0, whole[0].before
        yield from ((step.number + 1, step.after) for step in whole)

    wanted = arrays_of(job, part[-1].after)
    where = f"Read back from a checkpoint after step {stop},"
    if lost := lapses(job, arrays_of(job, read), wanted, course, where):
        return lost
    first = resumed[0]
    came_to = arrays_of(job, first.after)
    return went_on(job, part[-1].after, stop, first.number + 1, came_to, course) or (
        diagnose_updates(job, [*part, *resumed], workers=way.workers)
    )


def _through_a_file(job: Job, state: State, step: int) -> State:
    """Return what a checkpoint gives back of a state."""
    names = job.updater.rule.slots
    kept = Checkpoint(
        tensors=job.network.views(state.parameters),
        optimizer=dict(zip(names, state.slots, strict=True)),
        step=step,
        epoch=step // job.steps_per_epoch,
        experiment="",
        digest=digest(state.parameters),
        progress={},
    )
    with tempfile.TemporaryDirectory(prefix="dptrain-resume-") as folder:
        file = Path(folder) / "last.safetensors"
        save_checkpoint(file, kept)
        read = load_checkpoint(file)
    parameters = flat_parameters(job.network, job.dtype, read)
    return State(parameters, [np.array(read.optimizer[name]) for name in names])
