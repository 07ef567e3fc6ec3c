"""What `--trace` costs, and what it shows of the time lost between ranks on the small job.

    python -m benchmarks.timeline

Runs with and without the flag alternate. A rank's wait for the others is either their delay or the
price of meeting. Whoever comes last to a meeting waits for nobody, so the shortest wait of all
ranks is the price; to it comes what passes between one step and the next.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, machine
from benchmarks.peers.cores import available, on_cores, threads
from benchmarks.peers.jobs import JOBS
from benchmarks.peers.timing import warm_up_of
from benchmarks.programs import PROGRAMS, SHARED

STEPS = 6000
JOB = "small"


def run(folder: Path, *, trace: bool) -> tuple[float, list[dict[str, Any]]]:
    """Return the seconds of a step, and the spans of the timeline if there is one."""
    program = next(each for each in PROGRAMS if each.name == SHARED)
    out = folder / "run"
    command = program.command(JOB, STEPS, out) + ["--trace"] * trace
    with on_cores(available()[: program.cores]):
        done = subprocess.run(
            command,
            env=os.environ | threads(1),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
    seconds = program.step_seconds(json.loads(done.stdout.strip().splitlines()[-1]))
    if not trace:
        return seconds, []
    events = json.loads((out / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    return seconds, [each for each in events if each["ph"] == "X"]


def prices(spans: list[dict[str, Any]]) -> Iterator[float]:
    """Yield for every step after the warm-up the microseconds that meeting cost."""
    steps: dict[int, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for each in spans:
        if "args" in each and each["tid"] > 1:  # a rank's, not the coordinator's
            steps[each["args"]["step"]][each["tid"]].append(each)
    for number in range(warm_up_of(STEPS), max(steps)):
        now, later = steps[number], steps[number + 1]
        waits = [[e["dur"] for e in own if e["name"] == "wait"] for own in now.values()]
        if len({len(own) for own in waits}) != 1:
            continue  # a wait too short for the clock
        met = sum(min(meeting) for meeting in zip(*waits, strict=True))
        ends = {rank: max(e["ts"] + e["dur"] for e in own) for rank, own in now.items()}
        gaps = [min(e["ts"] for e in own) - ends[rank] for rank, own in later.items()]
        if max(gaps) < 1000:  # not across an evaluation
            yield met + min(gaps)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    plain, traced, lost = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            plain.append(run(Path(folder), trace=False)[0])
        with tempfile.TemporaryDirectory() as folder:
            seconds, spans = run(Path(folder), trace=True)
        traced.append(seconds)
        lost.append(statistics.median(prices(spans)))
        print(
            f"{1e6 * plain[-1]:.0f} µs, with a timeline {1e6 * traced[-1]:.0f} µs", file=sys.stderr
        )
    without, with_trace = statistics.median(plain), statistics.median(traced)
    print(f"{machine()}")
    print(f"{JOBS[JOB].net}, batch {JOBS[JOB].batch}, 2 workers, medians of {rounds} rounds")
    print(f"a step: {1e6 * without:.1f} µs; with --trace {1e6 * with_trace:.1f} µs")
    print(f"ratio of the medians: {with_trace / without:.3f}")
    print(f"meeting and passing to the next step: {statistics.median(lost):.1f} µs of a step")


if __name__ == "__main__":
    main()
