"""``dptrain evaluate``."""

from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from dptrain.cli.flags import CodeFlags, warn_of_change
from dptrain.cli.output import print_json
from dptrain.data.dataset import open_dataset
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import SPLITS, Job, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.own.origin import Named, demand
from dptrain.report.tables import print_table, score_rows
from dptrain.trained import load_run


def evaluate(
    run: Path,
    /,
    *,
    checkpoint: Literal["last", "best"] = "last",
    dataset: str | None = None,
    code: CodeFlags | None = None,
    json: bool = False,
) -> int:
    """Print loss and accuracy of a run's weights on every split.

    Args:
        run: A run folder.
        checkpoint: The newest weights, or those with the best score.
        dataset: Another data set than the one that the run was trained on.
        code: Of a network of your own.
        json: Print the result as one JSON object.
    """
    named = code.named() if code is not None else None
    trained, saved = load_run(run, checkpoint, named)
    job = _job(warn_of_change(trained.experiment, named), dataset, named)
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


def _job(experiment: Experiment, dataset: str | None, code: Named | None) -> Job:
    demand(experiment.model, code)
    if dataset is not None:
        experiment = replace(experiment, dataset=dataset, dataset_digest=None)
    opened = open_dataset(
        prepared_data(experiment),
        validation=experiment.validation,
        test=experiment.test,
        seed=experiment.seed,
    )
    return Job(experiment, opened, code)
