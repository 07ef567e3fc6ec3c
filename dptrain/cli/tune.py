"""``dptrain tune``."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter
from msgspec.structs import replace

from dptrain.cli.completion import ExperimentPath, parameters, searches
from dptrain.cli.experiments import read_experiment
from dptrain.cli.flags import ExecutionFlags, ExperimentFlags, given, named_code
from dptrain.cli.initial_network import with_saved_network
from dptrain.cli.output import print_json
from dptrain.coordinator.signals import stop_on_signals
from dptrain.errors import EXIT_ERROR, UsageError
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.execution import DEFAULT_WORKERS, Execution, settle_execution
from dptrain.experiment.files import plain
from dptrain.experiment.override import override
from dptrain.experiment.schema import OWN_LAYERS, Experiment
from dptrain.experiment.validate import build
from dptrain.machine.cores import usable_cores
from dptrain.own.origin import Named, demand, own_name
from dptrain.report.tune import as_data, notes_on, print_search, write_ranking
from dptrain.report.tune_picture import draw_search
from dptrain.report.tune_progress import progress_for
from dptrain.tune.folder import Search, SearchFolder
from dptrain.tune.search import Searcher, Wanted, plan


def tune(
    experiment: ExperimentPath = None,
    /,
    *,
    param: Annotated[list[str] | None, Parameter(completer=parameters)] = None,
    experiment_flags: ExperimentFlags = None,
    execution_flags: ExecutionFlags = None,
    method: Literal["grid", "random", "tpe"] | None = None,
    trials: int | None = None,
    metric: str | None = None,
    until: str | None = None,
    prune: bool = False,
    side_by_side: int | None = None,
    out: Path | None = None,
    resume: Annotated[Path | None, Parameter(completer=searches)] = None,
    json: bool = False,
) -> int:
    """Search for good settings of an experiment.

    Every trial is a run of its own with some settings changed, ranked by the best value of a
    measure after any epoch. The same search makes the same trials, however many of them run at a
    time; with tpe, which learns from finished trials, for the same --side-by-side.

    Args:
        experiment: An experiment.toml, or the name of an example.
        param: NAME=VALUES; give one for each setting. VALUES: uniform:LOW:HIGH, loguniform:LOW:HIGH
            (both with :POINTS for a grid), int:FIRST:LAST[:STEP], range:START:STOP:STEP without
            STOP, or a list such as sgd,adam. NAME: a setting such as lr; model.hidden, a width
            for all hidden layers or a list such as 100,50-30-20; layers.0.units; model_args.NAME.
        experiment_flags: What all trials share.
        execution_flags: What decides only the speed; by default one worker for a trial.
        method: grid tries all combinations, random draws some, tpe chooses by the results so far
            and needs dptrain[tune]; by default grid where there are only lists of values, else
            random.
        trials: Number of trials, for random and tpe; 20 unless given.
        metric: What ranks the trials, such as validation_loss; by default the accuracy (else the
            loss) on validation rows, or test rows where there are none.
        until: Goals that end the search once a trial reaches them, such as "train>=.99,test>=.97".
        prune: Give up trials that are worse than the median of those before them.
        side_by_side: Trials at a time; by default so many that all cores have a worker.
        out: The folder of the search; by default logs/TIME-tune-MODEL.
        resume: The folder of a search to continue.
        json: Print the result as one JSON object.
    """
    shared = given(experiment_flags) if experiment_flags is not None else {}
    runs_as = given(execution_flags) if execution_flags is not None else {}
    asked = Wanted(param or [], method, trials, metric, until, prune)
    if side_by_side is not None and side_by_side < 1:
        raise UsageError(f"side_by_side={side_by_side} must be at least 1")
    code = named_code(shared)
    if resume is not None:
        if code is not None:
            del shared["model"]  # it does not change the search, but allows its code to be run
        others = [f"--{key.replace('_', '-')}" for key in shared]
        others += ["an experiment file"] * (experiment is not None) + ["--out"] * (out is not None)
        prepared = _resumed(resume, asked, others, runs_as, side_by_side, code)
    else:
        prepared = _new(experiment, asked, shared, runs_as, side_by_side, out, code)
    return _carried_out(prepared, as_json=json)


class _Prepared(NamedTuple):
    search: Search
    folder: SearchFolder
    code: Named | None


def _new(
    file: Path | None,
    asked: Wanted,
    shared: dict[str, Any],
    runs_as: dict[str, Any],
    side_by_side: int | None,
    out: Path | None,
    code: Named | None,
) -> _Prepared:
    tables: dict[str, dict[str, Any]] = {"experiment": {}, "execution": {}}
    if file is not None:
        tables = read_experiment(file)
        build(Experiment, tables["experiment"], f"{file} [experiment]")
    settings = with_saved_network(override(tables["experiment"], shared))
    experiment = build(Experiment, settings, "the command line")
    demand(experiment.model, code)
    if code is not None:
        code.check(experiment.model, experiment.model_digest)
        experiment = replace(experiment, model_digest=code.digest)
    execution = _settled(override(tables["execution"], runs_as), experiment.shards)
    together = side_by_side or max(1, usable_cores() // execution.world_size)
    search = plan(experiment, execution, asked._replace(side_by_side=together))
    model = own_name(experiment.model) if code is not None else experiment.model
    name = OWN_LAYERS if experiment.layers is not None else model
    folder = SearchFolder.create(name, out)
    folder.write_search(search)
    return _Prepared(search, folder, code)


def _settled(values: dict[str, Any], shards: int | None) -> Execution:
    execution = build(Execution, values, "the command line")
    if execution.join or execution.listen:
        raise UsageError("tune starts all workers itself; leave out --join and --listen")
    if execution.workers is None:
        alone = execution.exchange is None or not EXCHANGES[execution.exchange].workers
        execution = replace(execution, workers=1 if alone else DEFAULT_WORKERS)
    return settle_execution(execution, shards)


def _resumed(
    path: Path,
    asked: Wanted,
    others: list[str],
    runs_as: dict[str, Any],
    side_by_side: int | None,
    code: Named | None,
) -> _Prepared:
    flags = {"parameters": "--param"} | {
        n: f"--{n}" for n in ("method", "metric", "until", "prune")
    }
    others = others + [flag for name, flag in flags.items() if getattr(asked, name)]
    if others:
        raise UsageError(
            f"--resume {path} goes on with the recorded search; leave out {', '.join(others)}, or "
            "begin another search"
        )
    folder = SearchFolder.resume(path)
    try:
        search = folder.read_search()
        model = str(search.experiment.get("model", ""))
        demand(model, code)
        if code is not None:
            code.check(model, search.experiment.get("model_digest"))
        execution = _settled(override(search.execution, runs_as), search.experiment.get("shards"))
        search = replace(
            search,
            execution=plain(execution),
            side_by_side=side_by_side or search.side_by_side,
            trials=_more(search, asked.trials),
        )
        folder.write_search(search)
    except BaseException:
        folder.close()
        raise
    return _Prepared(search, folder, code)


def _more(search: Search, trials: int | None) -> int:
    if trials is None or trials == search.trials:
        return search.trials
    if search.method == "grid" or trials < search.trials:
        raise UsageError(
            f"--trials {trials}: a search can only be given more trials, and a grid none; this "
            f"one is a {search.method} search of {search.trials}"
        )
    return trials


def _carried_out(prepared: _Prepared, *, as_json: bool) -> int:
    search, folder, code = prepared
    with folder, stop_on_signals() as stop:
        progress = progress_for(sys.stderr, search, folder)
        try:
            for note in notes_on(search):
                progress.note(note)
            course = Searcher(search, folder, progress, stop, code).run()
        finally:
            progress.close()
        trials = course.counted()
        if any(trial.value is not None for trial in trials):
            draw_search(search, trials, folder.picture)
        write_ranking(search, trials, folder)
        finished = not stop.exit_code
        if as_json:
            print_json(as_data(search, trials, folder, finished=finished))
        else:
            print_search(search, trials, folder, finished=finished)
    failed = all(trial.status == "failed" for trial in trials)
    return stop.exit_code or (EXIT_ERROR if failed else 0)
