"""``dptrain train``."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dptrain.cli import BEGAN
from dptrain.cli.completion import ExperimentPath, resumable
from dptrain.cli.experiments import read_experiment
from dptrain.cli.flags import ExecutionFlags, ExperimentFlags, given, named_code
from dptrain.cli.initial_network import with_saved_network
from dptrain.cli.output import print_json
from dptrain.cli.panels import OUTPUT
from dptrain.cli.variables import misspelt
from dptrain.coordinator.observer import Observer
from dptrain.coordinator.session import Session
from dptrain.errors import EXIT_SIGHUP, RunFolderError, UsageError
from dptrain.experiment.execution import Execution
from dptrain.experiment.override import override
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.invocation import program, word
from dptrain.own.origin import Named, naming
from dptrain.report.drawing_process import DrawingProcess
from dptrain.report.observers import observer_for
from dptrain.report.streams import give_up
from dptrain.runfolder import RunFolder

if TYPE_CHECKING:  # nothing here imports mathematics before the workers are started
    from dptrain.coordinator.outcome import Outcome


def train(
    experiment: ExperimentPath = None,
    /,
    *,
    experiment_flags: ExperimentFlags = None,
    execution_flags: ExecutionFlags = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    resume: Annotated[Path | None, Parameter(group=OUTPUT, completer=resumable)] = None,
    curves: Annotated[bool, Parameter(negative="--no-curves", group=OUTPUT)] = True,
    json: Annotated[bool, Parameter(group=OUTPUT)] = False,
) -> int:
    """Train a network with several workers.

    The systems of the study notes are ready as `dptrain train NAME`: two-layer,
    two-layer-numerical, three-layer, multi-layer-batchnorm, conv, linear, multiple-linear,
    logistic, svm, overfitting, augmentation, transfer, mnist-97, deep-conv, search. The last
    is for `dptrain tune`.

    Without arguments it trains 784-100-10 with ReLU and Adam on MNIST, with two workers; the
    notes' two-layer net, 784-50-10 with sigmoid and SGD, is two-layer. Flags override
    environment variables (DPTRAIN_LR for --lr, and so on), these the file, and the file the
    defaults.

    Args:
        experiment: An experiment.toml, such as that of an earlier run, or the name of an example.
        experiment_flags: What decides the numbers.
        execution_flags: What decides only the speed.
        out: The run folder; by default logs/TIME-MODEL.
        resume: A run folder to continue from its last checkpoint; --dataset says where the same
            data are now.
        curves: Draw the curves at the end, which takes half a second; dptrain plot can do it later.
        json: Print the result as one JSON object.
    """
    decides = given(experiment_flags) if experiment_flags is not None else {}
    runs_as = given(execution_flags) if execution_flags is not None else {}
    lies_at = str(decides.get("dataset", ""))
    with DrawingProcess(observer_for(sys.stderr), draws=curves) as artist:
        for sentence in misspelt(os.environ):
            artist.warn(sentence)
        if resume is not None:
            session = _resumed(resume, experiment, decides, runs_as, out, artist)
        else:
            session = _new(experiment, decides, runs_as, out, artist)
        return _report(session.run(), artist, lies_at, as_json=json)


def _new(
    file: Path | None,
    decides: dict[str, Any],
    runs_as: dict[str, Any],
    out: Path | None,
    observer: Observer,
) -> Session:
    origin = "the command line"
    tables: dict[str, dict[str, Any]] = {"experiment": {}, "execution": {}}
    if file is not None:
        tables = read_experiment(file)
        for name, schema in (("experiment", Experiment), ("execution", Execution)):
            build(schema, tables[name], f"{file} [{name}]")
    return Session(
        build(Experiment, with_saved_network(override(tables["experiment"], decides)), origin),
        build(Execution, override(tables["execution"], runs_as), origin),
        observer,
        out=out,
        origin=named_code(decides),
        began=BEGAN,
    )


def _resumed(
    path: Path,
    file: Path | None,
    decides: dict[str, Any],
    runs_as: dict[str, Any],
    out: Path | None,
    observer: Observer,
) -> Session:
    for value, name in ((file, "an experiment file"), (out, "--out")):
        if value is not None:
            raise UsageError(f"--resume {path} continues in its own folder; leave out {name}")
    code = named_code(decides)
    if code is not None:
        # they do not change the experiment, but allow its code to be run
        code = Named(decides.pop("model"), decides.pop("model_args", None))
    dataset = decides.pop("dataset", None)
    from dptrain.coordinator.resuming import changed_settings, check_patience, recorded

    folder = RunFolder.resume(path)
    try:
        earlier, execution = recorded(folder)
        if fixed := changed_settings(earlier, decides):
            raise UsageError(
                f"--resume {path} continues the recorded experiment, which has its own "
                f"{', '.join(fixed)}; to change that, train anew: "
                f"{program()} train {word(path / 'experiment.toml')}" + naming(earlier["model"])
            )
        check_patience(path, earlier, decides)
        experiment = build(Experiment, override(earlier, decides), str(path))
        prepared = None
        if dataset is not None:
            from dptrain.experiment.moved_data import data_at

            experiment, prepared = data_at(experiment, dataset)
        return Session(
            experiment,
            build(Execution, override(execution, runs_as), "the command line"),
            observer,
            resumed=folder,
            prepared=prepared,
            origin=code,
            began=BEGAN,
        )
    except BaseException:
        folder.close()
        raise


def _report(outcome: "Outcome", artist: DrawingProcess, lies_at: str, *, as_json: bool) -> int:
    from dptrain.report.tables import print_outcome

    if outcome.finished:
        artist.ask_for(outcome.folder.path)
    if as_json:
        print_json(outcome.summary() | {"wall_seconds": time.perf_counter() - BEGAN})
    else:
        try:
            print_outcome(outcome, time.perf_counter() - BEGAN, lies_at)
        except OSError:
            if outcome.exit_code != EXIT_SIGHUP:
                raise
            give_up(sys.stdout)  # its terminal has been closed
    try:
        artist.wait()
    except RunFolderError as error:  # the weights matter more than their picture
        print(f"dptrain: warning: {error}", file=sys.stderr)  # noqa: T201
    return outcome.exit_code
