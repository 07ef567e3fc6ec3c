"""What must change nothing: who evaluates.

What all ranks together make of the weights is compared with what this process makes of them, bit by
bit, and with the formulas.
"""

import tempfile
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from dptrain.exchange.engine import Score, State
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.code import MEMORY
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data
from dptrain.gradcheck.comparison import Array, Comparison, compare_numbers
from dptrain.gradcheck.distributed import Way, engine
from dptrain.gradcheck.evaluation import check_score
from dptrain.gradcheck.taken import taken, taken_weights, write_rows
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Program


def check_replicas(
    job: Job,
    data: Path,
    way: Way,
    state: State,
    *,
    count: int = 2,
    worker: Program = WORKER,
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
        compared: list[Comparison] = []
        others = {"weights of zero": np.zeros_like(state.parameters)}
        with engine(job, data, way, state, worker=worker, timeout=timeout) as found:
            for done in range(count + 1):
                if done:
                    list(found.train(done - 1, done, lambda: False, 1))
                where, weights = f"{way}, after {done} steps", np.array(found.state().parameters)
                score = found.evaluate("train")
                same = _replicas(job, score, weights, way, where)
                right = check_score(known, score, weights, rows, where, others)
                others["the weights of the step before"] = weights
                if right is not None:  # it knows what is wrong where both fail
                    same = same._replace(diagnoses=right.diagnoses)
                compared += [same] if right is None else [same, right]
        return compared


def _replicas(job: Job, score: Score, weights: Array, way: Way, where: str) -> Comparison:
    own = InlineEngine(job, weights, []).evaluate("train")
    pairs = {"loss": (score.loss, own.loss)}
    if score.accuracy is not None and own.accuracy is not None:
        pairs["accuracy"] = score.accuracy, own.accuracy
    name = "evaluation by all ranks = by this process"
    result = compare_numbers(name, "replicas", where, pairs)
    if job.pieces("train") < way.workers and result.verdict is Verdict.PASS:
        note = f"There was something to evaluate for {job.pieces('train')} ranks only."
        return result._replace(verdict=Verdict.INCONCLUSIVE, note=note)
    return result


def _with_rows_for(job: Job, data: Path, workers: int, folder: Path) -> tuple[Job, Path]:
    """Return a job with training rows for every rank to evaluate some, and where they lie."""
    if job.pieces("train") >= workers:
        return job, data
    rows = np.arange(job.evaluation_rows * workers - job.evaluation_rows // 2)
    write_rows(job, folder, taken(job, rows), weights=taken_weights(job, rows))
    experiment = replace(
        job.experiment,
        dataset=MEMORY,
        validation=0.0,
        test=0.0,
        train_rows=None,
        patience=None,
        min_improvement=0.0,
        normalise_targets="none",  # those that are taken are standardised already
        target_scale=None,
    )
    dataset = opened_data(experiment, folder)
    known = replace(experiment, dataset_digest=dataset.digest, input_scale=dataset.scale)
    return Job(known, dataset, job.origin), folder
