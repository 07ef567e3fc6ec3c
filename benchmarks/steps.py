"""Time per step of dptrain and its peers on the same jobs: one run, interleaved, medians, ratios.

    python -m benchmarks.steps               # needs the extras `bench` and `mpi` for all peers

Every round runs every program once, in turn, so that a machine whose speed drifts slows all of
them. A peer that is not installed is left out and said so.
"""

import argparse
import datetime
import shlex
import sys
from pathlib import Path

from benchmarks.measuring import Results, machine, measure
from benchmarks.peers.jobs import JOBS
from benchmarks.picture import draw
from benchmarks.programs import chosen
from benchmarks.tables import goals_table, job_table, medians_of, title


def parsed() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of each job's steps")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="programs whose name contains any of the texts",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.md")
    return parser.parse_args()


def report(results: Results, rounds: int, left_out: list[str]) -> str:
    """Return everything that was found as Markdown."""
    command = shlex.join(["python", "-m", "benchmarks.steps", *sys.argv[1:]])
    medians = medians_of(results)
    text = [
        "# Time per step",
        f"`{command}`, {datetime.datetime.now(datetime.UTC).date()}, {machine()}.",
        f"Medians of {rounds} interleaved rounds, float32. Ratios are of medians.",
        *(["Left out: " + "; ".join(left_out) + "."] if left_out else []),
        "## Goals",
        goals_table(medians),
    ]
    for job, programs in results.items():
        text += [f"## {title(job)}", job_table(programs, medians[job])]
    return "\n\n".join(text) + "\n"


def main() -> None:
    """Measure and write the results: a report, the seconds of every round, and a picture."""
    options = parsed()
    programs = list(chosen(options.only))
    if not programs:
        raise SystemExit(f"no program's name contains any of: {', '.join(options.only)}")
    left_out = [
        f"{program.name}, which needs {' and '.join(program.missing())}"
        for program in programs
        if program.missing()
    ]
    for each in left_out:
        print(f"left out: {each}", file=sys.stderr)
    present = [program for program in programs if not program.missing()]
    numbers = options.out.with_suffix(".json")
    results = measure(present, options.jobs, options.rounds, options.share, numbers)
    text = report(results, options.rounds, left_out)
    options.out.write_text(text, encoding="utf-8")
    draw(results, options.out.with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
