"""``dptrain gradcheck``."""

import secrets
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from dptrain.cli.completion import experiments
from dptrain.cli.experiments import read_experiment
from dptrain.cli.flags import ExperimentFlags, given, named_code
from dptrain.cli.initial_network import with_saved_network
from dptrain.cli.output import print_json
from dptrain.errors import UsageError
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.override import override
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.checking import Check, Plan
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.subject import BATCH_SIZE, START, TRAINED, Subject, as_given, shrunk
from dptrain.invocation import program
from dptrain.own.origin import Origin, code_meant, is_own

POINTS = {"initial": START, "burnt-in": TRAINED}


def gradcheck(
    what: Annotated[str | None, Parameter(completer=experiments)] = None,
    /,
    *,
    experiment_flags: ExperimentFlags | None = None,
    workers: str = "2,3",
    exchange: str = "shared,star",
    point: Literal["both", "initial", "burnt-in"] = "both",
    check_seed: int | None = None,
    html: Path | None = None,
    fail_fast: Annotated[bool, Parameter(negative="")] = False,
    verbose: Annotated[bool, Parameter(negative="")] = False,
    zoo: Annotated[bool, Parameter(negative="")] = False,
    json: bool = False,
) -> int:
    """Check gradients: of real workers, of one process, and by numbers.

    Everything is compared with everything: what the optimizer of a distributed run is about to
    apply, backpropagation in one process, independent formulas with bounds of their rounding
    errors, the complex step, and central differences. Exit code 0: passed, 3: failed,
    4: inconclusive.

    Args:
        what: An experiment.toml, the name of an example, or a network of your own: FILE.py:NAME.
        experiment_flags: What decides the numbers; by default minibatches of 13 rows in 5 shards.
        workers: Numbers of workers to check with, one after the other; 2,3 unless given.
        exchange: How gradients travel: shared, star, or inline for one worker; shared,star unless
            given.
        point: The weights at which to check: as they begin, or after some training; both
            unless given.
        check_seed: Seed of the rows, elements and directions that are checked; by default a new
            one, which is printed.
        html: Where to write a report with pictures, and with all that --verbose prints.
        fail_fast: End with the first comparison that does not hold.
        verbose: Print also how small an error would have been seen, by comparison and tensor.
        zoo: Check the checker: run all deliberate bugs, and print which were found.
        json: Print the result as one JSON object.
    """
    ways = _ways(workers, exchange)
    seed = secrets.randbits(32) if check_seed is None else check_seed
    flags = given(experiment_flags) if experiment_flags is not None else {}
    if zoo:
        return _zoo(as_json=json)
    subject = _subject(what, flags, seed)
    wanted = list(POINTS.values()) if point == "both" else [POINTS[point]]
    replay = f"{program()} " + shlex.join([*_without_seed(sys.argv[1:]), "--check-seed", str(seed)])
    from dptrain.report.gradcheck import as_data, print_report
    from dptrain.report.gradcheck_progress import Progress

    points = {name: each for name, each in subject.points().items() if name in wanted}
    plan = Plan(ways, first_only=fail_fast)
    with Progress(quiet=json) as progress:
        report = Check(subject, plan, points, progress, replay).run()
    if html is not None:
        from dptrain.report.gradcheck_html import write_html

        write_html(report, html)
    if json:
        print_json(as_data(report) | {"html": None if html is None else str(html)})
    else:
        print_report(report, verbose=verbose)
    return report.verdict.exit_code


def _subject(what: str | None, flags: dict[str, Any], seed: int) -> Subject:
    recorded: dict[str, Any] = {}
    if what is not None and is_own(what):
        flags = flags | {"model": what}
    elif what is not None and (meant := code_meant(what)):
        raise UsageError(meant)
    elif what is not None:
        recorded = read_experiment(Path(what))["experiment"]
    settings = with_saved_network(override(_small(recorded) if recorded else {}, flags))
    origin: Origin | None = named_code(flags)
    described = build(Experiment, settings, what or "the command line")
    rows = len(opened_data(described, prepared_data(described, centred=False)).train)
    small = build(Experiment, shrunk(settings, rows), what or "the command line")
    return Subject(small, origin, seed, given=as_given(small, override(recorded, flags), rows))


def _small(recorded: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment with small minibatches in uneven shards, in which more shows."""
    batch = min(int(recorded.get("batch_size") or BATCH_SIZE), BATCH_SIZE)
    return {k: v for k, v in recorded.items() if k != "shards"} | {"batch_size": batch}


def _ways(workers: str, exchange: str) -> list[Way]:
    counts = [part.strip() for part in workers.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in counts):
        raise UsageError(f"workers={workers!r} is no list of numbers; give one such as 2,3")
    names = [part.strip() for part in exchange.split(",")]
    for name in names:
        if name not in EXCHANGES:
            raise UsageError(
                f"exchange={name!r} is unknown; choose some of {', '.join(EXCHANGES)}, such as "
                "shared,star"
            )
    found = [Way(name, int(count)) for name in names for count in counts]
    return [way for way in found if EXCHANGES[way.exchange].workers or way.workers == 1]


def _without_seed(arguments: list[str]) -> list[str]:
    found = list(arguments)
    while "--check-seed" in found:
        at = found.index("--check-seed")
        del found[at : at + 2]
    return [each for each in found if not each.startswith("--check-seed=")]


def _zoo(*, as_json: bool) -> int:
    from dptrain.gradcheck.zoo.runner import run_zoo
    from dptrain.report.zoo import caught_line, print_zoo, zoo_data

    def tell(caught: Any) -> None:
        print(caught_line(caught), file=sys.stderr, flush=True)  # noqa: T201

    found = run_zoo(tell)
    if as_json:
        print_json(zoo_data(found))
    else:
        print_zoo(found)
    return 0 if found.good else 3
