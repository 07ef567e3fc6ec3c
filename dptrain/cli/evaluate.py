"""``dptrain evaluate``."""

from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from dptrain.cli.output import print_json
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import SPLITS, Job, opened_data, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.report.tables import print_table, score_rows
from dptrain.trained import load_run


def evaluate(
    run: Path,
    /,
    *,
    checkpoint: Literal["last", "best"] = "last",
    dataset: str | None = None,
    json: bool = False,
) -> int:
    """Print loss and accuracy of a run's weights on every split.

    Args:
        run: A run folder.
        checkpoint: The newest weights, or those with the best score.
        dataset: Another data set than the one that the run was trained on.
        json: Print the result as one JSON object.
    """
    trained, saved = load_run(run, checkpoint)
    job = _job(trained.experiment, dataset)
    engine = InlineEngine(job, trained.parameters, [])
    scores = {s: engine.evaluate(s) if len(job.split(s)) else None for s in SPLITS}
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
        print_json(summary)
    else:
        print_table(f"{run}, step {saved.step}", score_rows(summary))
    return 0


def _job(experiment: Experiment, dataset: str | None) -> Job:
    if dataset is not None:
        experiment = replace(experiment, dataset=dataset, dataset_digest=None, train_rows=None)
    return Job(experiment, opened_data(experiment, prepared_data(experiment)))
