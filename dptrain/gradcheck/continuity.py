"""What must change nothing: an interruption, and who evaluates.

Both are compared bit by bit: a run that was stopped and read back from its checkpoint with one that
was not; and what all ranks together make of the weights with what this process makes of them.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare_arrays
from dptrain.data.targets import Task
from dptrain.exchange.engine import Score, State
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.code import MEMORY
from dptrain.experiment.job import EVALUATION_ROWS, Job
from dptrain.gradcheck.comparison import Array, Comparison, compare
from dptrain.gradcheck.diagnosis import described
from dptrain.gradcheck.distributed import Step, Way, engine, steps
from dptrain.gradcheck.evaluation import check_score
from dptrain.gradcheck.states import equal_states
from dptrain.gradcheck.update import diagnose_updates
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Tensor
from dptrain.trained import flat_parameters


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
    found = equal_states(
        job, name, "resume", f"{way}, step {end}", resumed[-1].after, whole[-1].after
    )
    if all(each.verdict is not Verdict.FAIL for each in found):
        return found
    note = described(diagnose_updates(job, [*part, *resumed], workers=way.workers))
    return [each._replace(note=note) for each in found]


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
    """Compare evaluations by all ranks with this process and the formulas, after each step.

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
        known = job
        job, data = _with_rows_for(job, data, way.workers, Path(folder) / "data")
        rows = np.arange(len(job.dataset.train)) % len(known.dataset.train)
        compared: list[Comparison | None] = []
        with engine(job, data, way, state, worker=worker, timeout=timeout) as found:
            for done in range(count + 1):
                if done:
                    list(found.train(done - 1, done, lambda: False, 1))
                where, weights = f"{way}, after {done} steps", np.array(found.state().parameters)
                score = found.evaluate("train")
                compared.append(_replicas(job, score, weights, way, where))
                compared.append(check_score(known, score, weights, rows, where))
        return [each for each in compared if each is not None]


def _replicas(job: Job, score: Score, weights: Array, way: Way, where: str) -> Comparison:
    own = InlineEngine(job, weights, []).evaluate("train")
    pairs = [(score.loss, own.loss)]
    if score.accuracy is not None and own.accuracy is not None:
        pairs.append((score.accuracy, own.accuracy))
    tensors = [
        Tensor(name, (1,), i, i + 1, False, Zeros(), (1, 1))
        for i, name in zip(range(len(pairs)), ("loss", "accuracy"), strict=False)
    ]
    seen, wanted = (np.array(each) for each in zip(*pairs, strict=True))
    name = "evaluation by all ranks = by this process"
    result = compare(name, "replicas", where, tensors, seen, wanted, 0.0)
    if job.pieces("train") < way.workers and result.verdict is Verdict.PASS:
        note = f"There was something to evaluate for {job.pieces('train')} ranks only."
        return result._replace(verdict=Verdict.INCONCLUSIVE, note=note)
    return result


def _with_rows_for(job: Job, data: Path, workers: int, folder: Path) -> tuple[Job, Path]:
    """Return a job with training rows for every rank to evaluate some, and where they lie."""
    train = job.dataset.train
    if job.pieces("train") >= workers:
        return job, data
    order = np.arange(EVALUATION_ROWS * workers - EVALUATION_ROWS // 2) % len(train)
    x, t = train.take(order, job.dtype)
    task: Task = "classification" if job.dataset.classes else "regression"
    if job.dataset.classes > 1:  # one-hot, since some classes may have no training row
        t = np.eye(job.dataset.classes)[t]
    prepare_arrays(folder, x_train=x, t_train=t, dtype=job.experiment.dtype, task=task)
    dataset = open_dataset(folder, validation=0, test=0, seed=job.experiment.seed)
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
