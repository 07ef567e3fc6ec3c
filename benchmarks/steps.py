"""Time per step of dptrain and its peers on the same jobs: one run, interleaved, medians, ratios.

    python -m benchmarks.steps                      # needs the extra `bench` for the torch rows

Every round runs every program once, in turn, so that a machine whose speed drifts slows all of
them. A peer that is not installed is left out and said so.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.jobs import JOBS, Job

HERE = Path(__file__).parent
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
NUMPY = "NumPy by hand, 1 process"
DDP = "PyTorch DDP gloo, 2 processes"
INLINE = "dptrain inline, 1 shard"


class Program(NamedTuple):
    """Something that is timed."""

    name: str
    arguments: tuple[str, ...]
    threads: int = 1


PEERS = (
    Program(NUMPY, ("-m", "benchmarks.peers.numpy_straight")),
    Program("PyTorch, 1 thread", ("-m", "benchmarks.peers.torch_single", "--threads", "1")),
    Program("PyTorch, 2 threads", ("-m", "benchmarks.peers.torch_single", "--threads", "2"), 2),
    Program(DDP, ("-m", "benchmarks.peers.torch_ddp")),
)
DPTRAIN = (
    Program(INLINE, ("--workers", "1", "--shards", "1")),
    Program("dptrain inline, 4 shards", ("--workers", "1", "--shards", "4")),
    Program("dptrain star ipc, 2 workers, 2 shards", ("--workers", "2", "--shards", "2")),
    Program("dptrain star ipc, 2 workers, 4 shards", ("--workers", "2", "--shards", "4")),
    Program(
        "dptrain star tcp, 2 workers, 2 shards",
        ("--workers", "2", "--shards", "2", "--transport", "tcp"),
    ),
    Program(
        "dptrain star tcp, 2 workers, 4 shards",
        ("--workers", "2", "--shards", "4", "--transport", "tcp"),
    ),
)


def dptrain_command(job: Job, steps: int, program: Program, out: Path) -> list[str]:
    """Return the command line that does a job with dptrain."""
    sizes = "-".join(map(str, job.sizes))
    settings = f"""
        --model mlp:{sizes} --activation {job.activation} --init he --optimizer {job.optimizer}
        --lr {job.lr} --batch-size {job.batch} --steps {steps} --log-every 1000 --pin
        """.split()
    extra = [*settings, *program.arguments, "--out", str(out), "--json"]
    return [sys.executable, "-m", "dptrain.cli", "train", *extra]


def seconds(program: Program, name: str, steps: int) -> float | None:
    """Run a program once; return its seconds per step, or None where it is not installed."""
    job = JOBS[name]
    environment = os.environ | ONE_THREAD | {"OMP_NUM_THREADS": str(program.threads)}
    with tempfile.TemporaryDirectory() as folder:
        if program in PEERS:
            command = [sys.executable, *program.arguments, "--job", name, "--steps", str(steps)]
        else:
            command = dptrain_command(job, steps, program, Path(folder) / "run")
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, cwd=HERE.parent, check=False
        )
    if "No module named 'torch'" in done.stderr:
        return None
    if done.returncode:
        raise SystemExit(f"{program.name} failed:\n{done.stderr}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    if "step_seconds" in result:
        return float(result["step_seconds"])
    return 1 / float(result["steps_per_second"])


def measure(jobs: Sequence[str], rounds: int, share: float) -> dict[str, dict[str, list[float]]]:
    """Return the seconds per step of every round, by job and program."""
    found: dict[str, dict[str, list[float]]] = {job: {} for job in jobs}
    for number in range(rounds):
        for job in jobs:
            for program in (*PEERS, *DPTRAIN):
                each = seconds(program, job, max(10, int(JOBS[job].steps * share)))
                if each is not None:
                    found[job].setdefault(program.name, []).append(each)
                told = "not installed" if each is None else f"{each * 1e6:,.0f} µs"
                print(f"round {number + 1} {job:6} {program.name:40} {told}", file=sys.stderr)
    return found


def table(results: dict[str, list[float]]) -> str:
    """Return a job's results as a Markdown table: a ratio above 1 is slower than the reference."""
    medians = {name: statistics.median(values) for name, values in results.items()}
    lines = [
        "| program | median | fastest to slowest | to NumPy by hand | to DDP | to dptrain inline |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in results.items():
        ratios = [
            f"{medians[name] / medians[other]:.2f}" if other in medians else ""
            for other in (NUMPY, DDP, INLINE)
        ]
        span = f"{_time(min(values))} to {_time(max(values))}"
        lines.append(f"| {name} | {_time(medians[name])} | {span} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def _time(value: float) -> str:
    return f"{value * 1e3:.1f} ms" if value >= 0.01 else f"{value * 1e6:.0f} µs"


def machine() -> str:
    """Return what was measured on."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    libraries = []
    for name in ("numpy", "pyzmq", "torch"):
        try:
            libraries.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            libraries.append(f"{name} not installed")
    cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {cores} cores; Python {platform.python_version()}, {', '.join(libraries)}"


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of each job's steps")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--out", type=Path, default=HERE / "results.md")
    options = parser.parse_args()
    results = measure(options.jobs, options.rounds, options.share)
    command = shlex.join(["python", "-m", "benchmarks.steps", *sys.argv[1:]])
    text = [
        "# Time per step",
        f"`{command}`, {datetime.datetime.now(datetime.UTC).date()}, {machine()}.",
        f"Medians of {options.rounds} interleaved rounds, float32. Ratios are of medians.",
    ]
    for name, each in results.items():
        job = JOBS[name]
        sizes = "-".join(map(str, job.sizes))
        text += [
            f"## {sizes} {job.activation}, batch {job.batch}, {job.optimizer}",
            table(each),
        ]
    options.out.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
