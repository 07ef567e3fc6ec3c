"""``dptrain scaling``."""

import sys
from pathlib import Path
from typing import Any, Literal

from dptrain.cli.completion import ExperimentPath
from dptrain.cli.experiments import read_experiment
from dptrain.cli.flags import ExperimentFlags, given, named_code
from dptrain.cli.initial_network import with_saved_network
from dptrain.cli.output import print_json
from dptrain.errors import EXIT_CHECK_FAILED, UsageError
from dptrain.experiment.exchanges import WithWorkersName
from dptrain.experiment.override import override
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.machine.cores import usable_cores
from dptrain.report.curves import check_format, unused
from dptrain.report.scaling import as_data, draw_study, print_study
from dptrain.scaling.machine_warnings import warnings_about
from dptrain.scaling.study import ScalingKind, cases, study


def scaling(
    experiment: ExperimentPath = None,
    /,
    *,
    experiment_flags: ExperimentFlags = None,
    workers: str | None = None,
    kind: Literal["strong", "weak", "both"] = "both",
    exchange: WithWorkersName | None = None,
    pin: bool = False,
    rounds: int = 3,
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Measure how training gets faster with more workers, and recommend a number.

    Every number of workers trains the same job in turn, in several rounds; the figures are medians.
    Strong scaling splits one minibatch over all workers, weak scaling gives each worker a minibatch
    of its own. The weights are compared as well. Exit code 3 if they differ.

    Args:
        experiment: An experiment.toml, or the name of an example.
        experiment_flags: What decides the numbers; --steps are those of one measurement.
        workers: Numbers of workers, such as 1,2,4; by default 1, 2, … up to the cores.
        kind: Which of the two to measure; both unless given.
        exchange: How gradients travel, also for one worker; by default as for training.
        pin: Bind each worker to a core.
        rounds: How often everything is measured; 3 unless given.
        out: The picture, .png, .svg or .pdf; by default scaling.png, or where there is one
            scaling-2.png.
        json: Print the result as one JSON object.
    """
    cores = usable_cores()
    counts = _counts(workers, cores)
    if rounds < 1:
        raise UsageError(f"rounds={rounds} must be at least 1")
    where = unused(Path("scaling.png")) if out is None else out
    check_format(where)
    flags = given(experiment_flags) if experiment_flags is not None else {}
    steps = flags.pop("steps", None)
    recorded = {} if experiment is None else read_experiment(experiment)["experiment"]
    settings = with_saved_network(override(recorded, flags))
    described = build(Experiment, settings, str(experiment or "the command line"))
    kinds: list[ScalingKind] = ["strong", "weak"] if kind == "both" else [kind]
    ways: dict[str, Any] = {"exchange": exchange, "pin": pin or None}
    warnings = warnings_about(counts, cores)
    for warning in warnings:
        _tell(f"warning: {warning}")
    data, what = cases(described, counts, kinds, ways, cores, named_code(flags))
    found = study(data, what, steps=steps, rounds=rounds, told=_tell)
    draw_study(found, where)
    if json:
        print_json(as_data(found, warnings) | {"picture": str(where)})
    else:
        print_study(found)
        print(f"picture: {where}")  # noqa: T201 - the result
    return 0 if found.same else EXIT_CHECK_FAILED


def _counts(text: str | None, cores: int) -> list[int]:
    if text is None:
        return list(range(1, cores + 1))
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"workers={text!r} is not a list of numbers; give one such as 1,2,4")
    return sorted({int(part) for part in parts})


def _tell(text: str) -> None:
    print(f"dptrain: {text}", file=sys.stderr, flush=True)  # noqa: T201
