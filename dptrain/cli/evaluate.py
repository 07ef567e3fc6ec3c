"""``dptrain evaluate``."""

from pathlib import Path
from typing import Literal

from dptrain.cli.output import print_json
from dptrain.evaluation.classification import Classification
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import SPLITS, evaluation_job
from dptrain.report.evaluation import print_classes, print_confusion, score_line
from dptrain.report.tables import print_table
from dptrain.trained import load_run


def evaluate(
    run: Path,
    /,
    *,
    checkpoint: Literal["last", "best"] = "last",
    dataset: str | None = None,
    json: bool = False,
) -> int:
    """Print how good a run's weights are on every split.

    For classes the accuracy, precision, recall and F1 of each class, and the confusion matrix; for
    numbers R², RMSE and MAE.

    Args:
        run: A run folder, or a model that compress or convert wrote.
        checkpoint: The newest weights, or those with the best score.
        dataset: Another data set than the one that the run was trained on.
        json: Print the result as one JSON object.
    """
    trained, saved = load_run(run, checkpoint)
    job = evaluation_job(trained.experiment, dataset)
    engine = InlineEngine(job, trained.parameters, [])
    scores = {s: engine.evaluate(s) if len(job.split(s)) else None for s in SPLITS}
    found = {s: trained.evaluate_split(job.split(s)) for s in SPLITS if len(job.split(s))}
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
    if json:
        print_json(summary | {"splits": {s: each.plain() for s, each in found.items()}})
        return 0
    losses = {s: "" if each is None else f", loss {each.loss:.4f}" for s, each in scores.items()}
    rows = [(s, score_line(each) + losses[s]) for s, each in found.items()]
    print_table(f"{run}, step {saved.step}", rows)
    split = next(each for each in ("test", "validation", "train") if each in found)
    if isinstance(held_out := found[split], Classification):
        print_classes(held_out, split)
        print_confusion(held_out, split)
    return 0
