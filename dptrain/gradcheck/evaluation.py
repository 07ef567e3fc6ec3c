"""Evaluations by the formulas: running statistics instead of the minibatch's, and no dropout.

The losses of training rows are bounded like everything that the formulas give. Which answer is
right is decided by outputs that are bounded too: where two are too near to each other to tell,
either answer is accepted.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.engine import Score
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare_numbers
from dptrain.gradcheck.diagnosis import Diagnosis, times
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Answers, Batch, Reference
from dptrain.gradcheck.reference.places import leaves
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.network import Network

Array = NDArray[Any]

# Numbers that the formulas may compute, and in one go.
MOST, AT_ONCE = 100_000_000, 5_000_000
# Losses are summed in float64 by a tree, pieces first.
SUMMED = 64 * UNITS["float64"]


class Expected(NamedTuple):
    """What an evaluation should be, and how far off it may be.

    Attributes:
        loss: mean over the rows.
        loss_bound: likewise.
        accuracy: fraction of right answers; None where there are none.
        accuracy_bound: half the fraction of those that are too near to tell.
    """

    loss: float
    loss_bound: float
    accuracy: float | None
    accuracy_bound: float


class Rowwise(NamedTuple):
    """Rows of an evaluation, by the formulas.

    Attributes:
        answers: of every single row.
        targets: labels or values of them.
        places: which of them each row of the evaluation is, ``(n,)``.
    """

    answers: Answers
    targets: Array
    places: Array

    @property
    def losses(self) -> Array:
        """Of every row of the evaluation, ``(n,)``."""
        found: Array = self.answers.losses[self.places]
        return found


def by_formulas(job: Job, parameters: Array, rows: Array) -> Rowwise | None:
    """Return what evaluating some training rows should give, row by row.

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
    return Rowwise(Answers(*map(np.concatenate, zip(*parts, strict=True))), t, places)


def expected(found: Rowwise, *, classifies: bool) -> Expected:
    """Return what all rows come to."""
    answers, places = found.answers, found.places
    loss, top = float(found.losses.mean()), float(np.abs(answers.losses).max())
    bound = float(answers.loss_errors[places].mean()) + SUMMED * top
    if not classifies:
        return Expected(loss, bound, None, 0.0)
    low, high = _accuracies(found, answers.outputs)
    return Expected(loss, bound, (low + high) / 2, (high - low) / 2 + UNITS["float64"])


def _accuracies(found: Rowwise, outputs: Array) -> tuple[float, float]:
    """Return the lowest and the highest fraction of right answers that outputs may stand for."""
    sure, possible = right_answers(outputs, found.answers.errors, found.targets)
    return float(sure[found.places].mean()), float(possible[found.places].mean())


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
    score: Score,
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
    by_row = by_formulas(job, parameters, rows)
    if by_row is None:
        return None
    wanted = expected(by_row, classifies=job.scores)
    pairs, bounds = {"loss": (score.loss, wanted.loss)}, [wanted.loss_bound]
    if wanted.accuracy is not None and score.accuracy is not None:
        pairs["accuracy"] = score.accuracy, wanted.accuracy
        bounds.append(wanted.accuracy_bound)
    found = compare_numbers("evaluation = formulas", "evaluation", where, pairs, bounds)
    if found.verdict is not Verdict.FAIL:
        return found
    for what, each in (others or {}).items():
        by_row_there = by_formulas(job, each, rows)
        assert by_row_there is not None
        there = expected(by_row_there, classifies=job.scores)
        if abs(score.loss - there.loss) <= there.loss_bound:
            sentence = f"What is evaluated are {what}."
            return found._replace(diagnoses=(Diagnosis("evaluated-elsewhere", sentence, 0.0),))
    return found._replace(diagnoses=(_why(job, score, by_row, wanted),))


def _why(job: Job, score: Score, by_row: Rowwise, wanted: Expected) -> Diagnosis:
    """Return what a wrong evaluation looks like."""
    if abs(score.loss - wanted.loss) <= wanted.loss_bound:
        return _miscounted(score, by_row, wanted)
    for kind, sentence, loss in _mistakes(by_row.losses, job.evaluation_rows):
        if abs(score.loss - loss) <= wanted.loss_bound * max(1.0, abs(loss / wanted.loss)):
            return Diagnosis(kind, sentence, 0.0)
    kinds = {layer.kind for _, _, layer in leaves(job.network.row)}  # type: ignore[union-attr]
    suspects = [
        (kind, what)
        for kind, what in (
            ("batchnorm", "batch norm does not use its running averages as it should"),
            ("dropout", "dropout is active"),
        )
        if kind in kinds
    ]
    ratio = f"The loss is {times(score.loss / wanted.loss)} what it should be"
    if not suspects:
        return Diagnosis("evaluation-scaled", f"{ratio}.", 1.0)
    perhaps = " or ".join(what for _, what in suspects)
    return Diagnosis(f"evaluation-{suspects[0][0]}", f"{ratio}: perhaps {perhaps}.", 0.5)


def _miscounted(score: Score, by_row: Rowwise, wanted: Expected) -> Diagnosis:
    found, right, bound = score.accuracy, wanted.accuracy, wanted.accuracy_bound
    assert found is not None
    assert right is not None  # or nothing would be wrong
    if abs(found + right - 1) <= bound:
        sentence = "1 - accuracy is reported as the accuracy."
        return Diagnosis("accuracy-inverted", sentence, 0.0)
    outputs = by_row.answers.outputs
    mistakes = [("accuracy-smallest", "The smallest output is taken for the answer.", -outputs)]
    if outputs.shape[1] == 1:
        sentence = "Outputs are compared with 0.5, as probabilities, and not with 0."
        mistakes.append(("accuracy-threshold", sentence, outputs - 0.5))
    for kind, sentence, others in mistakes:
        low, high = _accuracies(by_row, others)
        if low - bound <= found <= high + bound:
            return Diagnosis(kind, sentence, 0.0)
    counted = f"counted {times(found / right)}" if right else "counted where there are none"
    sentence = f"The losses are right, but the right answers are {counted}."
    return Diagnosis("accuracy-miscounted", sentence, 0.0)


def _mistakes(losses: Array, piece: int) -> Iterator[tuple[str, str, float]]:
    """Yield kinds of mistakes, with a sentence, and mean losses as they would have them.

    Args:
        losses: of the rows.
        piece: rows of one piece of the evaluation.
    """
    n = len(losses)
    pieces = np.split(losses, np.arange(piece, n, piece))
    means = [float(each.mean()) for each in pieces]
    summed = "The loss is a sum over the rows, not their mean."
    yield "sum-not-mean", summed, float(losses.sum())
    of_means = "The loss is a mean of the pieces' means, however many rows they have."
    yield "mean-of-means", of_means, float(np.mean(means))
    if len(pieces) > 1:
        full = "The loss of every piece is divided by a full piece's rows, also the last."
        yield "wrong-divisor", full, float(losses.sum()) / (len(pieces) * piece)
    first = np.concatenate([losses[: len(each)] for each in pieces])
    yield "same-rows", "Every piece of the evaluation takes the first rows.", float(first.mean())
    whole = losses[: n // piece * piece]
    if 0 < len(whole) < n:
        lost = "The last piece of the evaluation is lost."
        yield "rows-lost", lost, float(whole.sum()) / n
        yield "rows-lost", lost, float(whole.mean())
    for i, each in enumerate(pieces):
        alone = f"Piece {i} of the evaluation is counted alone."
        yield "rows-lost", alone, float(each.sum()) / n
