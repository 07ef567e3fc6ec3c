"""Random experiments on a small data set, and what every exchange makes of them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dptrain.arithmetic.digest import digest
from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare_arrays
from dptrain.exchange.barrier import LINE_WORDS, Barrier, EventBarrier, FlagBarrier
from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.lockstep import LockstepRank
from dptrain.exchange.memory import SharedMemory, map_memory
from dptrain.exchange.rank import initial_state
from dptrain.exchange.segment import Segment, segment, segment_bytes
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment
from dptrain.experiment.settle import settle
from dptrain.experiment.validate import build
from dptrain.launch.local import Inheritance

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")


@st.composite
def experiments(draw: st.DrawFn, shards: st.SearchStrategy[int]) -> dict[str, Any]:
    """Draw an experiment: ragged tails, and minibatches smaller than the shards, among them."""
    regression = draw(st.booleans())
    return {
        "dataset": "regression" if regression else "classes",
        "layers": draw(layers(2 if regression else 3)),
        "input_shape": [4, 5],
        "loss": "sum-of-squares" if regression else draw(
            st.sampled_from(["softmax-cross-entropy", "sum-of-squares"])
        ),
        "optimizer": draw(st.sampled_from(OPTIMIZERS)),
        "lr": 0.01,
        "batch_size": draw(st.integers(1, 25)),
        "shards": draw(shards),
        "clip_norm": draw(st.sampled_from([None, 0.05, 1.0])),
        "weight_decay": draw(st.sampled_from([0.0, 0.1])),
        "schedule": draw(st.sampled_from(["constant", "cosine"])),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "seed": draw(st.integers(0, 99)),
        "augment_shift": draw(st.sampled_from([0, 0, 2])),
        "augment_rotate": draw(st.sampled_from([0.0, 0.0, 20.0])),
        "augment_noise": draw(st.sampled_from([0.0, 0.0, 0.1])),
        "steps": 7,
    }  # fmt: skip


ACTIVATIONS = ("sigmoid", "relu", "tanh", "identity")
BESIDE = (
    {"layer": "batchnorm"},
    {"layer": "batchnorm", "sync": False},
    {"layer": "layernorm"},
    {"layer": "dropout", "rate": 0.3},
)


@st.composite
def layers(draw: st.DrawFn, units: int) -> list[dict[str, Any]]:
    """Draw a network: mostly plain, some with what has to know of other shards."""
    xavier = {"init": "xavier"}
    found: list[dict[str, Any]] = [{"layer": "flatten"}]
    # wide layers too: of a vector of less than 4096 elements, rank 0 alone has a slice
    widths = draw(st.lists(st.one_of(st.integers(1, 9), st.sampled_from([130, 300])), max_size=3))
    for width in widths:
        row: list[dict[str, Any]] = [
            {"layer": "dense", "units": width, "init": xavier},
            *draw(st.lists(st.sampled_from(BESIDE), max_size=1)),
            {"layer": draw(st.sampled_from(ACTIVATIONS))},
        ]
        way = draw(st.sampled_from(["plain", "plain", "chain", "residual"]))
        if way == "residual":
            shortcut = [{"layer": "dense", "units": width, "init": xavier}]
            row = [{"layer": "residual", "layers": row, "shortcut": shortcut}]
        found += [{"layer": "chain", "layers": row}] if way == "chain" else row
    return [*found, {"layer": "dense", "units": units, "init": xavier}]


class Data:
    """Small data sets for classes and for regression, prepared once in both dtypes."""

    def __init__(self, folder: Path, rows: int = 57) -> None:
        random = np.random.default_rng(5)
        x = random.standard_normal((rows, 4, 5))
        targets = {"classes": np.arange(rows) % 3, "regression": x[:, 0, :2] - x[:, 1, :2]}
        self.folders = {
            (name, dtype): prepare_arrays(
                folder / f"{name}-{dtype}",
                x_train=x,
                t_train=t,
                x_test=x[:9],
                t_test=t[:9],
                dtype=dtype,
            )
            for name, t in targets.items()
            for dtype in ("float32", "float64")
        }

    def folder(self, experiment: dict[str, Any]) -> Path:
        """Return where an experiment's data lie."""
        return self.folders[experiment["dataset"], experiment["dtype"]]

    def job(self, experiment: dict[str, Any]) -> Job:
        """Return an experiment, settled, with its data."""
        dataset = open_dataset(self.folder(experiment), validation=0, test=0, seed=0)
        described = build(Experiment, experiment, "the test")
        settled = settle(described, 1, dataset.classes, len(dataset.train), dataset.digest)
        return Job(settled, dataset)


def inline_digests(job: Job) -> list[str]:
    """Return the digest of the weights after every step in one process."""
    engine = InlineEngine(job, *initial_state(job))
    return [
        digest(engine.state().parameters)
        for _ in engine.train(0, job.total_steps, lambda: False, 1)
    ]


class Delayed:
    """A barrier to which its rank comes late, at random."""

    def __init__(self, barrier: Barrier, random: Random) -> None:
        self._barrier = barrier
        self._random = random

    def arrive(self, value: int) -> None:
        """Dawdle, then arrive."""
        if self._random.random() < 0.5:
            time.sleep(self._random.random() * 1e-3)
        self._barrier.arrive(value)

    def wait(self, value: int) -> None:
        """Wait for the others."""
        self._barrier.wait(value)


def shared_memory(job: Job, workers: int) -> Segment:
    """Return memory for a run, with the initial state in place."""
    memory = SharedMemory()
    memory.reserve(segment_bytes(job, workers), "the test")
    shared = segment(job, workers, map_memory(memory.descriptor))
    memory.close()
    parameters, slots = initial_state(job)
    shared.states[0].parameters[:] = parameters
    for place, value in zip(shared.states[0].slots, slots, strict=True):
        place[:] = value
    return shared


def never() -> bool:
    """Never recall anybody."""
    return False


def lockstep_digests(
    make_job: Callable[[], Job], workers: int, kind: str, random: Random
) -> list[str]:
    """Return the digest after every step, with a thread for each rank of the shared exchange."""
    job = make_job()
    shared = shared_memory(job, workers)
    inherited = Inheritance(workers, "events" if kind == "events" else "flags")
    digests: list[str] = []
    failures: list[BaseException] = []

    def collect() -> None:
        digests.append(digest(shared.states[(len(digests) + 1) % 2].parameters))

    meeting = threading.Barrier(workers, action=collect)

    def carry_out(rank: int) -> None:
        try:
            barrier: Barrier
            if kind == "events":
                barrier = EventBarrier(shared.words, rank, inherited.bells, never)
            else:
                barrier = FlagBarrier(shared.words, rank, workers, 1, never)
            delayed = Delayed(barrier, Random(random.random()))
            each = LockstepRank(make_job(), shared, delayed, rank, workers)
            with np.errstate(all="ignore"):
                for step in range(job.total_steps):
                    each.run(step, step + 1)
                    meeting.wait()
        except BaseException as error:
            failures.append(error)
            meeting.abort()
            raise

    threads = [threading.Thread(target=carry_out, args=[r], daemon=True) for r in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    inherited.close()
    assert not failures, failures
    assert not any(thread.is_alive() for thread in threads)
    assert [shared.words[rank * LINE_WORDS] for rank in range(workers)] == [
        shared.words[0]
    ] * workers
    return digests
