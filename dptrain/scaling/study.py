"""A study of scaling: the same job, strong and weak, with several numbers of workers."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from dptrain.arithmetic.shards import default_shards
from dptrain.errors import UsageError
from dptrain.exchange.engine import StepSplit
from dptrain.experiment.defaults import DEFAULT_BATCH
from dptrain.experiment.dry_run import settled_by_dry_run
from dptrain.experiment.execution import Execution, exchange_of, settle_execution
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.experiment.settling import settled_for
from dptrain.own.origin import Origin
from dptrain.scaling.measure import Measurement, measure
from dptrain.scaling.model import CostModel, Load, fit_costs, load_of

ScalingKind = Literal["strong", "weak"]

TARGET_SECONDS = 1.0
FEWEST_STEPS, MOST_STEPS = 10, 3000
# A count is recommended over a smaller one only where it is faster by more than the noise.
WORTH_IT = 1.05


class Case(NamedTuple):
    """One number of workers in one kind of scaling.

    Attributes:
        kind: strong (the same minibatch for all) or weak (the same rows for each).
        job: what is trained.
        execution: settled.
        load: what the cost model is told.
    """

    kind: ScalingKind
    job: Job
    execution: Execution
    load: Load

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.execution.world_size


class CaseResult(NamedTuple):
    """What the rounds of one case came to, as medians.

    Attributes:
        case: what was measured.
        seconds: of a step.
        slowest: round.
        split: what a step consisted of.
        predicted: seconds of a step by the cost model.
        speed_up: rows a second, to those of the first case of its kind.
        efficiency: the same for each worker.
        digests: of all rounds; one, if all is well.
    """

    case: Case
    seconds: float
    slowest: float
    split: StepSplit
    predicted: float
    speed_up: float
    efficiency: float
    digests: frozenset[str]


class Study(NamedTuple):
    """Everything that was found.

    Attributes:
        results: strong scaling first, by number of workers.
        model: fitted to each kind.
        recommended: the number of workers for this job on this machine.
        same: whether all executions of the same experiment came to the same weights.
    """

    results: list[CaseResult]
    model: dict[ScalingKind, CostModel]
    recommended: int
    same: bool


def cases(
    experiment: Experiment,
    counts: Sequence[int],
    kinds: Sequence[ScalingKind],
    ways: dict[str, Any],
    cores: int,
    origin: Origin | None = None,
) -> tuple[Path, list[Case]]:
    """Return the prepared data and what is to be measured.

    Args:
        experiment: as the user gave it; its minibatch is that of one worker in weak scaling.
        counts: numbers of workers, ascending.
        kinds: of scaling.
        ways: fields of `Execution` that hold for all.
        cores: that the workers can use.
        origin: the network of the user's own, if the model is one.

    Raises:
        UsageError: settings that exclude each other.
    """
    data = prepared_data(experiment)
    dataset = opened_data(experiment, data)
    shards = experiment.shards or default_shards(max(counts))
    found = []
    for kind in kinds:
        for workers in counts:
            execution = settle_execution(Execution(workers=workers, **ways), shards)
            scale = workers if kind == "weak" else 1
            rows = (experiment.batch_size or min(DEFAULT_BATCH, len(dataset.train))) * scale
            if rows > len(dataset.train):
                raise UsageError(
                    f"weak scaling to {workers} workers needs minibatches of {rows} rows, but "
                    f"there are {len(dataset.train)}; give a smaller --batch-size, or --kind strong"
                )
            # in weak scaling each worker keeps as many shards as in the case of one worker
            own = shards if kind == "strong" else max(1, shards // max(counts)) * workers
            given = replace(experiment, batch_size=rows, shards=own, steps=1, epochs=None)
            settled = settled_for(given, dataset, workers, origin)
            if origin is not None:
                given_shards = experiment.shards is not None
                tried = settled_by_dry_run(settled, dataset, origin, shards_given=given_shards)
                settled, own = tried.experiment, tried.experiment.shards or own
            job = Job(replace(settled, steps=10 * MOST_STEPS), dataset, origin)
            load = load_of(
                workers,
                shards=own,
                parameter_bytes=job.network.size * job.dtype.itemsize,
                cores=cores,
                meetings=3 if job.updater.clips else 2,
                shared=exchange_of(execution).lockstep,
            )
            found.append(Case(kind, job, execution, load))
    return data, found


def study(
    data: Path,
    what: Sequence[Case],
    *,
    steps: int | None,
    rounds: int,
    told: Callable[[str], None],
) -> Study:
    """Measure every case in every round, in turn, and fit the cost model.

    In turn, so that a machine whose speed drifts slows all cases alike.

    Args:
        data: the folder of the prepared data set.
        what: to measure.
        steps: of a measurement; by default as many as take a second with the first case.
        rounds: how often each case is measured.
        told: is told what is being measured.
    """
    if steps is None:
        told("how long a step takes")
        first = measure(what[0].job, data, what[0].execution, FEWEST_STEPS)
        steps = min(max(FEWEST_STEPS, int(TARGET_SECONDS / first.seconds)), MOST_STEPS)
    measured: list[list[Measurement]] = [[] for _ in what]
    for number in range(rounds):
        for place, case in zip(measured, what, strict=True):
            told(f"round {number + 1} of {rounds}, {case.kind}, {case.workers} workers")
            place.append(measure(case.job, data, case.execution, steps))
    results: list[CaseResult] = []
    model: dict[ScalingKind, CostModel] = {}
    for kind in dict.fromkeys(case.kind for case in what):
        own = [(c, m) for c, m in zip(what, measured, strict=True) if c.kind == kind]
        splits = [(case.load, _median_split(each)) for case, each in own]
        model[kind] = fit_costs(splits)
        results += _results(own, model[kind])
    strong = [each for each in results if each.case.kind == "strong"]
    same = all(len(each.digests) == 1 for each in results)
    same = same and len(frozenset().union(*(each.digests for each in strong))) <= 1
    return Study(results, model, recommended(strong or results), same)


def _median_split(measured: Sequence[Measurement]) -> StepSplit:
    return StepSplit(
        *(statistics.median(part) for part in zip(*(m.split for m in measured), strict=True))
    )


def _results(
    own: Sequence[tuple[Case, Sequence[Measurement]]], model: CostModel
) -> Iterator[CaseResult]:
    base = 0.0
    for case, measured in own:
        seconds = statistics.median(each.seconds for each in measured)
        rate = case.job.batch_size / seconds
        base = base or rate / own[0][0].workers
        yield CaseResult(
            case=case,
            seconds=seconds,
            slowest=max(each.seconds for each in measured),
            split=_median_split(measured),
            predicted=model.seconds(case.load),
            speed_up=rate / (base * own[0][0].workers),
            efficiency=rate / (base * case.workers),
            digests=frozenset(each.digest for each in measured),
        )


def recommended(results: Sequence[CaseResult]) -> int:
    """Return the smallest number of workers than which no other is faster beyond the noise."""
    best = max(each.speed_up for each in results)
    return min(each.case.workers for each in results if each.speed_up * WORTH_IT >= best)
