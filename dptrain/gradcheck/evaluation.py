"""Evaluations by the formulas: running statistics instead of the minibatch's, and no dropout.

The losses of training rows are bounded like everything that the formulas give. Which answer is
right is decided by outputs that are bounded too: where two are too near to each other to tell,
either answer is accepted. Who evaluates must change nothing: what all ranks together make of the
weights is also compared with what this process makes of them, bit by bit.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.engine import SplitScore, TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare_numbers
from dptrain.gradcheck.diagnosis import Diagnosis, Mistake, times
from dptrain.gradcheck.distributed import Way, engine
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Answers, Batch, Reference
from dptrain.gradcheck.reference.places import leaves
from dptrain.gradcheck.taken import job_on, taken, taken_weights, write_rows
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Program
from dptrain.nn.network import Network

Array = NDArray[Any]

# Numbers that the formulas may compute, and in one go.
MOST, AT_ONCE = 100_000_000, 5_000_000
# Losses are summed in float64 by a tree, pieces first.
SUMMED = 64 * UNITS["float64"]
# What evaluations may do wrongly to layers that differ in training, by the kind of the layer.
UNLIKE = {
    "batchnorm": "batch norm does not use its running averages as it should",
    "dropout": "dropout is active",
}


class Expected(NamedTuple):
    """What evaluating some training rows should give: the answers of every single row, its target.

    ``places``: which of them each row of the evaluation is, ``(n,)``.
    """

    answers: Answers
    targets: Array
    places: Array

    @property
    def losses(self) -> Array:
        """Of every row of the evaluation, ``(n,)``."""
        found: Array = self.answers.losses[self.places]
        return found

    @property
    def loss(self) -> tuple[float, float]:
        """The mean, and how far off it may be."""
        top = float(np.abs(self.answers.losses).max())
        bound = float(self.answers.loss_errors[self.places].mean()) + SUMMED * top
        return float(self.losses.mean()), bound

    def accuracy(self, outputs: Array | None = None) -> tuple[float, float]:
        """Return the fraction of right answers, and half that of those that are too near to tell.

        The outputs may be others than the right ones.
        """
        outputs = self.answers.outputs if outputs is None else outputs
        told = right_answers(outputs, self.answers.errors, self.targets)
        low, high = (float(each[self.places].mean()) for each in told)
        return (low + high) / 2, (high - low) / 2 + UNITS["float64"]


def expected(job: Job, parameters: Array, rows: Array) -> Expected | None:
    """Return what evaluating some training rows should give.

    None where there are no formulas, or too many rows for them.

    Args:
        job: settled.
        parameters: flat ``(size,)``.
        rows: indices into the training rows ``(n,)``, some of them possibly repeated.
    """
    network, loss = job.network, job.loss
    if not isinstance(network, Network) or loss is None:
        return None
    single, places = np.unique(rows, return_inverse=True)
    numbers = sum(int(np.prod(shape)) for shape in network.shapes)
    if len(single) * numbers > MOST:
        return None
    x, t = job.dataset.train.take(single, job.dtype)
    step = max(1, AT_ONCE // numbers)
    parts = []
    for low in range(0, len(single), step):
        own = slice(low, low + step)
        batch = Batch([x[own].astype(float)], [t[own]], job.experiment.seed, 0)
        reference = Reference(network, loss, batch)
        parts.append(reference.answers(parameters.astype(float), UNITS[job.dtype.name]))
    return Expected(Answers(*map(np.concatenate, zip(*parts, strict=True))), t, places)


def right_answers(outputs: Array, errors: Array, t: Array) -> tuple[Array, Array]:
    """Return which rows are answered rightly for sure, and which possibly, ``(rows,)``.

    Args:
        outputs: ``(rows, classes)``, or ``(rows, 1)`` of which positive ones stand for class 1.
        errors: how far off they may be.
        t: labels ``(rows,)``.
    """
    if outputs.shape[1] == 1:
        toward = outputs[:, 0] * (2 * t - 1)
        return toward > errors[:, 0], toward >= -errors[:, 0]
    each = np.arange(len(t))
    own, room = outputs[each, t], errors[each, t]
    others, theirs = outputs.copy(), errors.copy()
    others[each, t], theirs[each, t] = -np.inf, 0
    return own - room > (others + theirs).max(1), own + room >= (others - theirs).max(1)


def check_score(
    job: Job,
    score: SplitScore,
    parameters: Array,
    rows: Array,
    where: str,
    others: Mapping[str, Array] | None = None,
) -> Comparison | None:
    """Compare an evaluation of training rows with the formulas; None where there are none.

    Args:
        job: settled.
        score: of the run.
        parameters: that it was evaluated with.
        rows: indices into the training rows.
        where: as of `Comparison`.
        others: weights that may have been taken instead, by what they are.
    """
    wanted = expected(job, parameters, rows)
    if wanted is None:
        return None
    pairs, bounds = {"loss": (score.loss, wanted.loss[0])}, [wanted.loss[1]]
    if job.scores and score.accuracy is not None:
        accuracy, bound = wanted.accuracy()
        pairs["accuracy"] = score.accuracy, accuracy
        bounds.append(bound)
    found = compare_numbers("evaluation = formulas", "evaluation", where, pairs, bounds)
    if found.verdict is not Verdict.FAIL:
        return found
    for what, each in (others or {}).items():
        there = expected(job, each, rows)
        if there is not None and abs(score.loss - there.loss[0]) <= there.loss[1]:
            why = Diagnosis("evaluated-elsewhere", f"What is evaluated are {what}.", 0.0)
            return found._replace(diagnoses=(why,))
    return found._replace(diagnoses=(_why(job, score, wanted),))


def _why(job: Job, score: SplitScore, wanted: Expected) -> Diagnosis:
    """Return what a wrong evaluation looks like."""
    loss, bound = wanted.loss
    if abs(score.loss - loss) <= bound:
        assert score.accuracy is not None  # or nothing would be wrong
        return _miscounted(score.accuracy, wanted)
    for row in _losses(wanted.losses, job.evaluation_rows):
        if abs(score.loss - row.change) <= bound * max(1.0, abs(row.change / loss)):
            return Diagnosis(row.kind, row.sentence, 0.0)
    network = job.network
    assert isinstance(network, Network)  # or there were no formulas
    kinds = {layer.kind for _, _, layer in leaves(network.row)}
    suspects = [kind for kind in UNLIKE if kind in kinds]
    ratio = f"The loss is {times(score.loss / loss)} what it should be"
    if not suspects:
        return Diagnosis("evaluation-scaled", f"{ratio}.", 1.0)
    perhaps = " or ".join(UNLIKE[kind] for kind in suspects)
    return Diagnosis(f"evaluation-{suspects[0]}", f"{ratio}: perhaps {perhaps}.", 0.5)


def _miscounted(found: float, wanted: Expected) -> Diagnosis:
    right, bound = wanted.accuracy()
    if abs(found + right - 1) <= bound:
        return Diagnosis("accuracy-inverted", "1 - accuracy is reported as the accuracy.", 0.0)
    outputs = wanted.answers.outputs
    rows = [Mistake("smallest", "The smallest output is taken for the answer.", -outputs)]
    if outputs.shape[1] == 1:
        sentence = "Outputs are compared with 0.5, as probabilities, and not with 0."
        rows.append(Mistake("threshold", sentence, outputs - 0.5))
    for row in rows:
        other, room = wanted.accuracy(row.change)
        if abs(found - other) <= room + bound:
            return Diagnosis(f"accuracy-{row.kind}", row.sentence, 0.0)
    counted = f"counted {times(found / right)}" if right else "counted where there are none"
    sentence = f"The losses are right, but the right answers are {counted}."
    return Diagnosis("accuracy-miscounted", sentence, 0.0)


def _losses(losses: Array, piece: int) -> Iterator[Mistake[float]]:
    """Yield known mistakes, with the mean of the rows' losses as each would have it.

    ``piece``: the rows of one piece of the evaluation.
    """
    n, total = len(losses), float(losses.sum())
    pieces = np.split(losses, np.arange(piece, n, piece))
    yield Mistake("sum-not-mean", "The loss is a sum over the rows, not their mean.", total)
    sentence = "The loss is a mean of the pieces' means, however many rows they have."
    yield Mistake("mean-of-means", sentence, float(np.mean([each.mean() for each in pieces])))
    if len(pieces) > 1:
        sentence = "The loss of every piece is divided by a full piece's rows, also the last."
        yield Mistake("wrong-divisor", sentence, total / (len(pieces) * piece))
    first = np.concatenate([losses[: len(each)] for each in pieces])
    sentence = "Every piece of the evaluation takes the first rows."
    yield Mistake("same-rows", sentence, float(first.mean()))
    whole = losses[: n // piece * piece]
    for rows in (n, len(whole)) if 0 < len(whole) < n else ():
        sentence = "The last piece of the evaluation is lost."
        yield Mistake("rows-lost", sentence, float(whole.sum()) / rows)
    for i, each in enumerate(pieces):
        sentence = f"Piece {i} of the evaluation is counted alone."
        yield Mistake("rows-lost", sentence, float(each.sum()) / n)


def check_replicas(
    job: Job, data: Path, way: Way, state: TrainingState, *, worker: Program = WORKER
) -> list[Comparison]:
    """Compare evaluations by all ranks with this process and the formulas, after each of two steps.

    An evaluation is cut into pieces of many rows. Where the training rows are too few to give one
    to each rank, they are repeated until there are enough.

    Args:
        job: settled.
        data: folder of its prepared data.
        way: exchange and workers, which are started anew.
        state: to begin with.
        worker: as of `dptrain.gradcheck.distributed.engine`.
    """
    with tempfile.TemporaryDirectory(prefix="dptrain-replicas-") as folder:
        known = job
        if job.pieces("train") < way.workers:
            data = Path(folder) / "data"
            rows = np.arange(job.evaluation_rows * way.workers - job.evaluation_rows // 2)
            write_rows(job, data, taken(job, rows), weights=taken_weights(job, rows))
            job = job_on(job, data, validation=0.0, train_rows=None, patience=None)
        rows = np.arange(len(job.dataset.train)) % len(known.dataset.train)
        compared: list[Comparison] = []
        others = {"weights of zero": np.zeros_like(state.parameters)}
        with engine(job, data, way, state, worker=worker) as found:
            for done in range(3):
                if done:
                    list(found.train(done - 1, done, lambda: False, 1))
                where, weights = f"{way}, after {done} steps", np.array(found.state().parameters)
                score, own = (
                    found.evaluate("train"),
                    InlineEngine(job, weights, []).evaluate("train"),
                )
                pairs = {"loss": (score.loss, own.loss)}
                if score.accuracy is not None and own.accuracy is not None:
                    pairs["accuracy"] = score.accuracy, own.accuracy
                name = "evaluation by all ranks = by this process"
                same = compare_numbers(name, "replicas", where, pairs)
                right = check_score(known, score, weights, rows, where, others)
                others["the weights of the step before"] = weights
                if right is not None:  # it knows what is wrong where both fail
                    same = same._replace(diagnoses=right.diagnoses)
                compared += [same] if right is None else [same, right]
        return compared
