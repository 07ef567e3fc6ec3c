"""``dptrain evaluate``."""

import sys
from typing import Literal

from dptrain.cli.completion import DataSet, RunPath
from dptrain.cli.flags import CodeFlags, warn_of_change
from dptrain.cli.output import print_json, scale_notes
from dptrain.coordinator.score_notes import chosen_by_test, flattered
from dptrain.data.dataset import Split
from dptrain.errors import ShapeError, UsageError
from dptrain.evaluation.classification import Classification
from dptrain.evaluation.regression import Regression
from dptrain.exchange.engine import SplitScore
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.evaluation_job import evaluation_job
from dptrain.experiment.job import SPLITS
from dptrain.own.network import OwnNetwork
from dptrain.report.banner import columns_lines
from dptrain.report.evaluation import print_classes, print_confusion, score_line
from dptrain.report.tables import print_table
from dptrain.trained import TrainedNetwork, load_run


def evaluate(
    run: RunPath,
    /,
    *,
    checkpoint: Literal["last", "best"] = "last",
    dataset: DataSet = None,
    code: CodeFlags | None = None,
    json: bool = False,
) -> int:
    """Print how good a run's weights are on every split.

    For classes the accuracy, precision, recall and F1 of each class, and the confusion matrix; for
    numbers R², RMSE and MAE.

    Args:
        run: A run folder, or a model that compress or convert wrote.
        checkpoint: The newest weights, or those with the best score on the validation rows, or on
            the test rows where none were held out, whose score is then too optimistic.
        dataset: A data set other than the one that the run was trained on.
        code: For a network of your own.
        json: Print the result as one JSON object.
    """
    named = code.named() if code is not None else None
    trained, saved = load_run(run, checkpoint, named)
    experiment = warn_of_change(trained.experiment, named)
    with scale_notes():
        job = evaluation_job(experiment, dataset, named, trained.class_names)
    engine = InlineEngine(job, trained.parameters, [])
    scores = {s: engine.evaluate(s) if len(job.split(s)) else None for s in SPLITS}
    judged = {s: _judged(trained, job.split(s)) for s in SPLITS if len(job.split(s))}
    found = {s: each for s, each in judged.items() if each is not None}
    summary = {
        "run": str(run),
        "checkpoint": checkpoint,
        "step": saved.step,
        "digest": saved.digest,
        "dataset": job.experiment.dataset,
    }
    for split, each in scores.items():
        name = "loss" if split == "train" else f"{split}_loss"
        summary |= {
            name: None if each is None else each.loss,
            f"{split}_accuracy": None if each is None else each.accuracy,
        }
    if dataset is not None:
        for line in columns_lines(job):
            print(line, file=sys.stderr)  # noqa: T201 - what was assumed
    notes = []
    if checkpoint == "best" and dataset is None and chosen_by_test(job):
        notes.append(flattered("the checkpoint best"))
    if job.experiment.target_scale is not None:
        notes.append("losses are of standardised targets, RMSE and MAE in the targets' own units")
    if json:
        splits = {s: each.plain() for s, each in found.items()}
        print_json(summary | {"splits": splits, "notes": notes})
        return 0
    rows = [(s, _line(judged[s], each)) for s, each in scores.items() if each is not None]
    print_table(f"{run}, step {saved.step}", rows)
    for note in notes:
        print(note)  # noqa: T201 - the result
    split = next((s for s in ("test", "validation", "train") if s in found), "")
    if isinstance(held_out := found.get(split), Classification):
        print_classes(held_out, split)
        print_confusion(held_out, split)
    return 0


def _judged(trained: TrainedNetwork, split: Split) -> Classification | Regression | None:
    """Return how good the answers are; None where the user's own network gives none to judge."""
    try:
        return trained.evaluate_split(split)
    except (UsageError, ShapeError):
        if isinstance(trained.network, OwnNetwork):  # its loss and its accuracy tell enough
            return None
        raise


def _line(found: Classification | Regression | None, score: SplitScore) -> str:
    parts = [] if found is None else [score_line(found)]
    if found is None and score.accuracy is not None:
        parts.append(f"{score.accuracy:.2%} correct")
    return ", ".join([*parts, f"loss {score.loss:.4f}"])
