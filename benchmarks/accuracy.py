"""Time to an accuracy of 97 %, from typing the command to its end, of dptrain and PyTorch.

    python -m benchmarks.accuracy                         # needs the extra `bench`
    python -m benchmarks.accuracy --example my.toml

Every run is a new process; only the data cache is warm. dptrain trains for as long as the example
says, PyTorch stops after the first epoch that is accurate enough, and at the latest where dptrain
does. Rounds are interleaved.
"""

import argparse
import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import ROOT, machine
from benchmarks.peers.cores import available, on_cores, threads
from benchmarks.programs import installed
from benchmarks.tables import markdown

TARGET = 0.97
CORES = 2


class Command(NamedTuple):
    """A module with its arguments, and how many threads of BLAS it is told to use."""

    arguments: list[str]
    threads: int | None = None
    makes_folder: bool = False


class Run(NamedTuple):
    """What one run came to."""

    seconds: float
    test_accuracy: float
    epochs: float


def commands(example: Path) -> dict[str, Command]:
    """Return what is run, by name; without PyTorch, dptrain alone."""
    train = ["dptrain.cli", "train", str(example.resolve()), "--json"]
    found = {f"dptrain train {example}": Command(train, makes_folder=True)}
    if installed("torch") is None:
        print("left out: PyTorch, which is not installed", file=sys.stderr)
        return found
    asked = ["--example", str(example.resolve()), "--target", str(TARGET), "--threads"]
    peer = ["benchmarks.peers.torch_accuracy", *asked]
    return found | {
        "PyTorch, 1 thread": Command([*peer, "1"], 1),
        "PyTorch, 2 threads": Command([*peer, "2"], 2),
        "PyTorch DDP gloo, 2 processes": Command(["benchmarks.peers.ranks", *peer, "1"], 1),
    }


def run(name: str, command: Command) -> Run:
    """Run a command from its start to its end.

    Raises:
        SystemExit: it failed; with what it wrote.
    """
    with tempfile.TemporaryDirectory() as folder, on_cores(available()[:CORES]):
        out = ["--out", str(Path(folder) / "run")] if command.makes_folder else []
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *command.arguments, *out],
            env=os.environ | (threads(command.threads) if command.threads else {}),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return Run(seconds, result["test_accuracy"] or 0.0, result["epochs"])


def table(results: dict[str, list[Run]]) -> str:
    """Return the results as Markdown; ratios are to the first row, above 1 is slower."""
    medians = [statistics.median(each.seconds for each in runs) for runs in results.values()]
    rows = []
    for (name, runs), median in zip(results.items(), medians, strict=True):
        seconds = [each.seconds for each in runs]
        span = f"{min(seconds):.2f} s to {max(seconds):.2f} s"
        worst = min(each.test_accuracy for each in runs)
        reached = f"{worst:.4f}" + ("" if worst >= TARGET else ", **too low**")
        epochs = f"{max(each.epochs for each in runs):g}"
        rows.append((name, f"{median:.2f} s", span, f"{median / medians[0]:.2f}", epochs, reached))
    head = ("command", "median", "fastest to slowest", "to dptrain", "epochs", "test accuracy")
    return markdown(head, rows)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--example", type=Path, default=Path("examples/mnist-97.toml"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "accuracy.md")
    options = parser.parse_args()
    wanted = commands(options.example)
    results: dict[str, list[Run]] = {name: [] for name in wanted}
    for number in range(options.rounds):
        for name, command in wanted.items():
            results[name].append(run(name, command))
            print(f"round {number + 1} {name:40} {results[name][-1]}", file=sys.stderr)
    typed = shlex.join(["python", "-m", "benchmarks.accuracy", *sys.argv[1:]])
    text = "\n\n".join(
        [
            f"# Time to a test accuracy of {TARGET:.0%}",
            f"`{typed}`, {datetime.datetime.now(datetime.UTC).date()}, {machine()}.",
            f"Medians of {options.rounds} interleaved rounds, from the start of the command to its "
            "end, with the data cache warm.",
            table(results),
        ]
    )
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
