"""The battery: short runs that a mutant must leave as they are to count as equivalent."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import to_builtins
from msgspec.structs import replace

from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.errors import DptrainError
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.distributed import Step, Way, begin, engine, steps
from dptrain.gradcheck.runs.carried_out import Leg, carry_out
from dptrain.gradcheck.runs.course import Small
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.zoo.habitats import HABITATS, weights
from dptrain.launch.local import Program
from dptrain.metrics.lines import read_metrics

STEPS, WORKERS = 3, 3
# Few, for time: a habitat stands here only if it shows changes that the others do not show.
ALONE = ("plain", "relu", "images", "batchnorm", "dropout", "momentum", "adam", "adamw", "noise")
TOGETHER = ("momentum", "batchnorm", "dropout")


class Run(NamedTuple):
    """A run of the battery.

    Attributes:
        habitat: the experiment.
        exchange: how it is carried out; ``"whole"`` is a run with its files, stopped and resumed.
    """

    habitat: str
    exchange: str


RUNS = (
    *(Run(habitat, "inline") for habitat in ALONE),
    *(Run(habitat, way) for habitat in TOGETHER for way in ("shared", "star")),
    Run("adam", "whole"),
)


class Told(NamedTuple):
    """What a run of the battery comes to.

    Attributes:
        digest: of everything; or the error with which it ends.
        figures: some of it, as numbers.
    """

    digest: str
    figures: tuple[float, ...] = ()

    def rounded_as(self, other: "Told") -> bool:
        """Return whether two runs differ by no more than rounding does."""
        same = len(self.figures) == len(other.figures) > 0
        return same and bool(np.allclose(self.figures, other.figures, 1e-10, 0, equal_nan=True))


def outcomes(program: Sequence[str], forks: Program) -> Iterator[tuple[Run, Told]]:
    """Carry out the battery; yield what each run comes to.

    Args:
        program: what worker processes run.
        forks: what forks such processes.
    """
    for run in RUNS:
        way = Way(run.exchange, 1 if run.exchange == "inline" else WORKERS)
        with np.errstate(all="ignore"):
            whole = run.exchange == "whole"
            yield run, _whole(run, program) if whole else carried_out(run.habitat, way, forks)[0]


def carried_out(habitat: str, way: Way, worker: Program, first: int = 0) -> tuple[Told, list[Step]]:
    """Carry out a habitat's steps, and tell what they come to.

    Args:
        habitat: its name.
        way: the exchange.
        worker: what worker processes run, or what forks them.
        first: the first step; the optimizer's state before it is arbitrary, unless that is 0.
    """
    subject = Subject(build(Experiment, HABITATS[habitat], habitat))
    dtype = subject.experiment.dtype
    job = subject.job(dtype)
    state = begin(job, weights(habitat, job))
    for slot in state.slots:
        slot += first
    found: list[Step] = []
    digest, figures = hashlib.sha256(), []
    try:
        with engine(
            job, subject.data(dtype), way, state, first, worker=worker, timeout=5.0
        ) as running:
            for step in steps(running, first, STEPS):
                found.append(step)
                digest.update(f"{step.loss!r}".encode())
                figures.append(step.loss)
                for each in (step.after.parameters, *step.after.slots):
                    digest.update(each.tobytes())
                    figures.append(float(np.abs(each).sum()))
            for split in ("train", "test"):
                scored = running.evaluate(split)
                digest.update(repr(scored).encode())
                figures += (each for each in scored if each is not None)
    except DptrainError as error:
        return Told(f"{type(error).__name__}: {error}"), found
    return Told(digest.hexdigest(), tuple(figures)), found


def _whole(run: Run, program: Sequence[str]) -> Told:
    """Train, stop and resume a run, and tell what its files hold, times left out."""
    subject = Subject(build(Experiment, HABITATS[run.habitat], run.habitat))
    dtype = subject.experiment.dtype
    settled = replace(subject.settled(dtype), validation=0.2, steps=5)
    job = subject.job(dtype, replace(settled, patience=5))
    told: list[object] = []
    with tempfile.TemporaryDirectory() as folder:
        path, copies = Path(folder) / "run", Path(folder) / "copies"
        copies.mkdir()
        legs = (Leg(Way("inline", 1), "asked", 2), Leg(Way("shared", 2), "killed", 4))
        few = Small(job, subject.data(dtype))
        try:
            for leg in (*legs, Leg(Way("inline", 1))):
                carry_out(few, leg, path, copies, program)
        except DptrainError as error:
            told.append(f"{type(error).__name__}: {error}")
        for file in sorted(Path(folder).rglob("*.safetensors")):
            saved = load_checkpoint(file)
            arrays = (*saved.tensors.items(), *saved.optimizer.items())
            told += [(file.name, saved.step, name, each.tobytes()) for name, each in arrays]
        for record in read_metrics(path / "metrics.jsonl"):
            fields = to_builtins(record).items()
            told.append([(name, value) for name, value in fields if "second" not in name])
    return Told(hashlib.sha256(repr(told).encode()).hexdigest())
