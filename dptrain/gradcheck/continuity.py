"""What must change nothing: an interruption, the order in which ranks arrive, who evaluates.

All three are compared bit by bit: a run that was stopped and read back from its checkpoint with one
that was not; a run whose workers were held up at random with one whose workers were not; and what
all ranks together make of the weights with what this process makes of them.
"""

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare_arrays
from dptrain.data.targets import Task
from dptrain.exchange.engine import Engine, State
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.code import MEMORY
from dptrain.experiment.job import EVALUATION_ROWS, Job
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.diagnosis import described
from dptrain.gradcheck.distributed import Step, Way, engine, steps
from dptrain.gradcheck.update import diagnose_updates
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Crew
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Tensor
from dptrain.trained import flat_parameters

HOLD_UPS = 30
# A worker is held up for at most so many seconds, and then left alone: several steps of a small
# network each.
HELD, LEFT = 0.005, 0.002
MOST_STEPS = 2000


def check_resume(
    job: Job,
    data: Path,
    way: Way,
    state: State,
    *,
    stop: int = 2,
    end: int = 4,
    worker: Sequence[str] = WORKER,
    timeout: float = 30.0,
) -> list[Comparison]:
    """Compare a run that was stopped and resumed from its checkpoint with one that was not.

    Args:
        job: settled.
        data: folder of its prepared data.
        way: exchange and workers, which are started three times.
        state: to begin with.
        stop: the run is stopped after so many steps.
        end: both runs end after so many.
        worker: as of `dptrain.gradcheck.distributed.engine`.
        timeout: likewise.
    """

    def run(begun: State, first: int, last: int) -> list[Step]:
        with engine(job, data, way, begun, first, worker=worker, timeout=timeout) as found:
            return list(steps(found, first, last))

    whole = run(state, 0, end)
    part = run(state, 0, stop)
    resumed = run(_through_a_file(job, part[-1].after, stop), stop, end)
    name = f"resumed after step {stop} = not interrupted"
    found = _equal(job, name, "resume", f"{way}, step {end}", resumed[-1].after, whole[-1].after)
    if all(each.verdict is not Verdict.FAIL for each in found):
        return found
    note = described(diagnose_updates(job, [*part, *resumed], workers=way.workers))
    return [each._replace(note=note) for each in found]


def check_order(
    job: Job,
    data: Path,
    way: Way,
    state: State,
    *,
    seed: int = 0,
    worker: Sequence[str] = WORKER,
    timeout: float = 30.0,
) -> list[Comparison]:
    """Compare a run whose workers are held up at random with one whose workers are not.

    Empty for one worker, who waits for nobody. Signals hold up the processes; the run goes on until
    there were enough of them.

    Args:
        job: settled.
        data: folder of its prepared data.
        way: exchange and workers, which are started twice.
        state: to begin with.
        seed: of when and whom to hold up.
        worker: as of `dptrain.gradcheck.distributed.engine`.
        timeout: likewise.
    """
    if way.exchange == "inline" or way.workers == 1:
        return []
    trouble = Trouble(np.random.default_rng(seed))
    with engine(job, data, way, state, worker=worker, timeout=timeout, joined=trouble.begin) as e:
        try:
            count = _train(e, lambda done: trouble.count < HOLD_UPS and done < MOST_STEPS)
        finally:
            trouble.end()
        held_up = _copied(e.state())
    with engine(job, data, way, state, worker=worker, timeout=timeout) as e:
        _train(e, lambda done: done < count)
        quiet = _copied(e.state())
    name = "workers held up at random = left alone"
    found = _equal(job, name, "order", f"{way}, step {count}", held_up, quiet)
    note = f"Workers were held up {trouble.count} times in {count} steps."
    return [each._replace(note=note) for each in found]


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


def check_replicas(
    job: Job,
    data: Path,
    way: Way,
    state: State,
    *,
    count: int = 2,
    worker: Sequence[str] = WORKER,
    timeout: float = 30.0,
) -> list[Comparison]:
    """Compare evaluations by all ranks with those of this process, before and after each step.

    An evaluation is cut into pieces of many rows. Where the training rows are too few to give one
    to each rank, they are repeated until there are enough.

    Args:
        job: settled.
        data: folder of its prepared data.
        way: exchange and workers, which are started anew.
        state: to begin with.
        count: of the steps.
        worker: as of `dptrain.gradcheck.distributed.engine`.
        timeout: likewise.
    """
    with tempfile.TemporaryDirectory(prefix="dptrain-replicas-") as folder:
        job, data = _with_rows_for(job, data, way.workers, Path(folder) / "data")
        with engine(job, data, way, state, worker=worker, timeout=timeout) as found:
            return [_replicas(job, found, way, done) for done in range(count + 1)]


def _replicas(job: Job, found: Engine, way: Way, done: int) -> Comparison:
    if done:
        list(found.train(done - 1, done, lambda: False, 1))
    score = found.evaluate("train")
    own = InlineEngine(job, np.array(found.state().parameters), []).evaluate("train")
    pairs = [(score.loss, own.loss)]
    if score.accuracy is not None and own.accuracy is not None:
        pairs.append((score.accuracy, own.accuracy))
    tensors = [
        Tensor(name, (1,), i, i + 1, False, Zeros(), (1, 1))
        for i, name in zip(range(len(pairs)), ("loss", "accuracy"), strict=False)
    ]
    seen, wanted = (np.array(each) for each in zip(*pairs, strict=True))
    name = "evaluation by all ranks = by this process"
    result = compare(name, "replicas", f"{way}, after {done} steps", tensors, seen, wanted, 0.0)
    if job.pieces("train") < way.workers and result.verdict is Verdict.PASS:
        note = f"There was something to evaluate for {job.pieces('train')} ranks only."
        return result._replace(verdict=Verdict.INCONCLUSIVE, note=note)
    return result


def _train(found: Engine, goes_on: Callable[[int], bool]) -> int:
    """Train step by step as long as it goes on; return how many steps were done."""
    done = 0
    while goes_on(done):
        list(found.train(done, done + 1, lambda: False, 1))
        done += 1
    return done


def _copied(state: State) -> State:
    return State(state.parameters.copy(), [slot.copy() for slot in state.slots])


def _with_rows_for(job: Job, data: Path, workers: int, folder: Path) -> tuple[Job, Path]:
    """Return a job with training rows for every rank to evaluate some, and where they lie."""
    train = job.dataset.train
    if job.pieces("train") >= workers:
        return job, data
    order = np.arange(EVALUATION_ROWS * workers - EVALUATION_ROWS // 2) % len(train)
    x, t = train.take(order, job.dtype)
    task: Task = "classification" if job.dataset.classes else "regression"
    prepare_arrays(folder, x_train=x, t_train=t, dtype=job.experiment.dtype, task=task)
    dataset = open_dataset(folder, validation=0, test=0, seed=job.experiment.seed)
    if dataset.classes != job.dataset.classes:  # some have no training row
        return job, data
    experiment = replace(
        job.experiment,
        dataset=MEMORY,
        dataset_digest=dataset.digest,
        validation=0.0,
        test=0.0,
        train_rows=None,
        patience=None,
        min_improvement=0.0,
    )
    return Job(experiment, dataset, job.origin), folder


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


def _equal(
    job: Job, name: str, edge: str, where: str, found: State, wanted: State
) -> list[Comparison]:
    """Compare weights and optimizer state, which must be equal."""
    tensors = job.network.all_tensors()
    compared = [
        compare(f"weights {name}", edge, where, tensors, found.parameters, wanted.parameters, 0.0)
    ]
    for slot, a, b in zip(job.updater.rule.slots, found.slots, wanted.slots, strict=True):
        compared.append(compare(f"{slot} {name}", edge, where, tensors, a, b, 0.0))
    return compared
