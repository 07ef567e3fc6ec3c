"""A search: planned from what the user gave, and carried out in lanes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dptrain.coordinator.signals import StopSignal
from dptrain.errors import UsageError
from dptrain.experiment.execution import Execution
from dptrain.experiment.files import plain
from dptrain.experiment.job import SPLITS
from dptrain.experiment.job_data import check_digest, opened_data, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.metrics.records import EpochRecord
from dptrain.own.origin import Named
from dptrain.tune.folder import Search, SearchFolder
from dptrain.tune.messages import Ended, FromLane, Order, TrialEvaluated, Warned
from dptrain.tune.methods import Grid, Method, MethodName, Random, combinations
from dptrain.tune.objective import available, check_measured, metric_name, parse_goals
from dptrain.tune.search_state import Decision, SearchState
from dptrain.tune.settings import checked, experiment_with
from dptrain.tune.space import SearchParameter, ValueChoices, parse_parameter
from dptrain.tune.trial import Trial
from dptrain.tune.trial_processes import TrialProcesses

DEFAULT_TRIALS = 20


class SearchObserver(Protocol):
    """Is told what happens; must not take long."""

    def begun(self, number: int, parameters: dict[str, Any]) -> None:
        """A trial has begun."""

    def evaluated(self, number: int, record: EpochRecord) -> None:
        """A trial has done an epoch."""

    def ended(self, trial: Trial) -> None:
        """A trial has ended."""

    def warned(self, number: int, text: str) -> None:
        """Something is wrong with a trial that does not stop it."""

    def close(self) -> None:
        """The search is over, however it ended."""


class Wanted(NamedTuple):
    """What the user asked for.

    Attributes:
        parameters: each ``NAME=SPECIFICATION``.
        method: or None for a grid where there are only lists, and random draws otherwise.
        trials: or None for all of a grid, and 20 otherwise.
        metric: or None for what the data allow.
        until: goals, or None.
        prune: whether to give up trials that fall behind.
        side_by_side: how many trials run at a time.
    """

    parameters: list[str]
    method: MethodName | None = None
    trials: int | None = None
    metric: str | None = None
    until: str | None = None
    prune: bool = False
    side_by_side: int = 1


def plan(experiment: Experiment, execution: Execution, wanted: Wanted) -> Search:
    """Return the search, with everything decided that was left open.

    Raises:
        UsageError, DataError: something cannot be used as given.
    """
    given = plain(experiment)
    space = space_of(wanted.parameters, given)
    prepared = prepared_data(experiment_with(given, _firsts(space)))
    dataset = opened_data(experiment, prepared)
    check_digest(experiment, dataset)
    names = {parameter.name for parameter in space}
    if not names & {"dataset", "label"}:  # what is searched on must not change meanwhile
        given["dataset_digest"] = dataset.digest
    path = Path(experiment.dataset)
    if path.exists():
        given["dataset"] = str(path.resolve())  # whoever resumes may be elsewhere
    measured = available([s for s in SPLITS if len(getattr(dataset, s))], dataset.classes)
    metric = metric_name(wanted.metric or measured[0])
    goals = parse_goals(wanted.until) if wanted.until else ()
    if not names & {"dataset", "label", "validation", "test"}:
        check_measured([metric, *(goal.metric for goal in goals)], measured)
    finite = all(isinstance(parameter.space, ValueChoices) for parameter in space)
    method: MethodName = wanted.method or ("grid" if finite else "random")
    method_for(method, space, experiment.seed, higher=metric.higher)  # raises
    return Search(
        experiment=given,
        execution=plain(execution),
        parameters=wanted.parameters,
        method=method,
        trials=_trials(method, wanted.trials, combinations(space)),
        metric=metric.name,
        until=wanted.until or "",
        prune=wanted.prune,
        side_by_side=wanted.side_by_side,
        behind=wanted.side_by_side,
    )


def space_of(texts: list[str], given: dict[str, Any]) -> list[SearchParameter]:
    """Return the parameters of a search over an experiment, given as plain data."""
    if not texts:
        raise UsageError("tune needs at least one --param, such as --param lr=loguniform:1e-3:1e-1")
    parsed = [parse_parameter(text) for text in texts]
    names = [parameter.name for parameter in parsed]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--param {name} is given {names.count(name)} times; give it once")
    return [checked(parameter, given) for parameter in parsed]


def _firsts(space: list[SearchParameter]) -> dict[str, Any]:
    return {
        name: what.values[0] if isinstance(what, ValueChoices) else what.low
        for name, what in space
        if name in ("dataset", "label", "dtype")
    }


def _trials(method: str, asked: int | None, count: int | None) -> int:
    if asked is not None and asked < 1:
        raise UsageError(f"trials={asked} must be at least 1")
    if method == "grid":
        assert count is not None
        if asked is not None:
            raise UsageError(
                f"--trials {asked} is for random and tpe; this grid has {count:,} trials: leave "
                "out --trials, or use --method random"
            )
        return count
    return min(asked or DEFAULT_TRIALS, count or asked or DEFAULT_TRIALS)


def course_of(search: Search, trials: list[Trial]) -> SearchState:
    """Return the course of a search, of which some trials may have ended."""
    space = space_of(search.parameters, search.experiment)
    metric = metric_name(search.metric)
    seed = int(search.experiment.get("seed", 0))
    return SearchState(
        search.trials,
        method_for(search.method, space, seed, higher=metric.higher),
        metric,
        goals=parse_goals(search.until) if search.until else (),
        prune=search.prune,
        behind=search.behind if search.method == "tpe" else None,
        ended=[trial for trial in trials if trial.final],
    )


class Searcher:
    """Carries out a search."""

    def __init__(
        self,
        search: Search,
        folder: SearchFolder,
        observer: SearchObserver,
        stop: StopSignal,
        code: Named | None = None,
    ) -> None:
        """Prepare.

        Args:
            search: what is searched.
            folder: locked; trials that have ended in it are not repeated.
            observer: sees the search go by.
            stop: asks to end it; trials that run are cut off after a checkpoint.
            code: the network of the user's own that this command line names, if any.
        """
        self.course = course_of(search, folder.trials())
        self._search = search
        self._folder = folder
        self._observer = observer
        self._stop = stop
        self._code = f"{code.path.resolve()}:{code.name}" if code is not None else ""

    def run(self) -> SearchState:
        """Search to the end, or until stopped; no process is left behind.

        Raises:
            RunFolderError: a trial could not be recorded.
        """
        search = self._search
        workers = int(search.execution.get("workers", 1))
        with TrialProcesses(
            search.side_by_side,
            self._folder.path,
            cores=workers if search.execution.get("pin") else 0,
            inherited=[self._folder.lock],
        ) as lanes:
            stopped: set[int] = set()
            while True:
                if not self._stop():
                    self._begin(lanes)
                if not self.course.running:
                    return self.course
                for message in lanes.hear():
                    self._take(message, lanes)
                ending = self.course.running if self._stop() else self.course.cut()
                for number in [n for n in ending if n not in stopped]:
                    stopped.add(number)
                    lanes.stop(number)

    def _begin(self, lanes: TrialProcesses) -> None:
        while lanes.has_free and (planned := self.course.next()) is not None:
            number, parameters = planned
            self._observer.begun(number, parameters)
            try:
                experiment = experiment_with(self._search.experiment, parameters)
            except UsageError as error:  # values that do not go together
                self._end(Ended(number, 0.0, False, error.exit_code, str(error)), lanes)
                continue
            folder = str(self._folder.run(number))
            order = Order(number, plain(experiment), self._search.execution, folder, self._code)
            lanes.start(order)

    def _take(self, message: FromLane, lanes: TrialProcesses) -> None:
        match message:
            case TrialEvaluated(number, record):
                self._observer.evaluated(number, record)
                self._decide(self.course.hear(number, record), lanes)
            case Warned(number, text):
                self._observer.warned(number, text)
            case Ended():
                self._end(message, lanes)

    def _end(self, ended: Ended, lanes: TrialProcesses) -> None:
        trial, decisions = self.course.end(
            ended.number,
            finished=ended.finished,
            seconds=ended.seconds,
            failure=(ended.exit_code, ended.message) if ended.exit_code else None,
        )
        if trial is not None:
            self._folder.add(trial)
            self._observer.ended(trial)
        self._decide(decisions, lanes)

    def _decide(self, decisions: list[Decision], lanes: TrialProcesses) -> None:
        for number, goes_on in decisions:
            lanes.decide(number, goes_on=goes_on and not self._stop())


def method_for(
    name: MethodName, space: Sequence[SearchParameter], seed: int, *, higher: bool
) -> Method:
    """Return the method; ``higher`` tells whether more of the metric is better.

    Raises:
        UsageError: the method does not go with the parameters, or needs what is not installed.
    """
    if name == "grid":
        return Grid(space)
    if name == "random":
        return Random(space, seed)
    from dptrain.tune.tpe import Tpe  # its library is an extra

    return Tpe(space, seed, higher=higher)
