"""Random experiments on a small data set, and what every exchange makes of them."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
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
from dptrain.exchange.segment import RING, Segment, segment, segment_bytes
from dptrain.experiment.defaults import settle
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.distributed import Step, copied
from dptrain.launch.local import Inheritance
from dptrain.nn.activations import ReLU, Tanh
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.initializers import Xavier
from dptrain.nn.losses import BinaryCrossEntropy
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.optim.rules import RULES
from tests.nn.losses import CASES, Case
from tests.nn.reference import ACTIVATIONS


def dataset_for(case: Case) -> str:
    """Return the data set below that a loss is for."""
    if case.labelled:
        return "two" if case.units == 1 else "classes"
    return "several" if isinstance(case.loss, BinaryCrossEntropy) else "regression"


# Losses with their settings, for each of the data sets.
LOSSES: dict[str, list[dict[str, Any]]] = {}
for case in CASES.values():
    some = LOSSES.setdefault(dataset_for(case), [])
    if (settings := msgspec.to_builtins(case.loss)) not in some:
        some.append(settings)
LOSSES |= {"weighed classes": LOSSES["classes"], "weighed regression": LOSSES["regression"]}
UNITS = {"classes": 3, "two": 1, "regression": 2, "several": 2}
UNITS |= {"weighed classes": 3, "weighed regression": 2}
OPTIMIZERS = tuple(RULES)
# The exchanges that have worker processes.
WITH_WORKERS = [name for name, each in EXCHANGES.items() if each.workers]


@st.composite
def experiments(draw: st.DrawFn, shards: st.SearchStrategy[int]) -> dict[str, Any]:
    """Draw an experiment: ragged tails, and minibatches smaller than the shards, among them."""
    dataset = draw(st.sampled_from(list(LOSSES)))
    return {
        "dataset": dataset,
        "layers": draw(st.one_of(layers(UNITS[dataset]), image_layers(UNITS[dataset]))),
        "input_shape": [4, 5],
        "normalise": draw(st.sampled_from(["none", "none", "standard", "minmax"])),
        **draw(st.sampled_from(LOSSES[dataset])),
        "optimizer": draw(st.sampled_from(OPTIMIZERS)),
        "lr": 0.01,
        "batch_size": draw(st.integers(1, 25)),
        "shards": draw(shards),
        "clip_norm": draw(st.sampled_from([None, 0.05, 1.0])),
        "weight_decay": draw(st.sampled_from([0.0, 0.1])),
        "l1": draw(st.sampled_from([0.0, 0.01])),
        "schedule": draw(st.sampled_from(["constant", "cosine"])),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "seed": draw(st.integers(0, 99)),
        "augment_shift": draw(st.sampled_from([0, 0, 2])),
        "augment_rotate": draw(st.sampled_from([0.0, 0.0, 20.0])),
        "augment_noise": draw(st.sampled_from([0.0, 0.0, 0.1])),
        "steps": 7,
    }  # fmt: skip


BESIDE: tuple[dict[str, Any], ...] = (
    {"layer": "batchnorm"},
    {"layer": "batchnorm", "sync": False},
    {"layer": "layernorm"},
    {"layer": "dropout", "rate": 0.3},
)


@st.composite
def layers(draw: st.DrawFn, units: int) -> list[dict[str, Any]]:
    """Draw a network, here and there with what has to know of other shards or of the step."""
    xavier = {"init": "xavier"}
    found: list[dict[str, Any]] = [{"layer": "flatten"}]
    # wide layers too: of a vector of less than 4096 elements, rank 0 alone has a slice
    widths = draw(st.lists(st.one_of(st.integers(1, 9), st.sampled_from([130, 300])), max_size=3))
    for width in widths:
        row: list[dict[str, Any]] = [
            {"layer": "dense", "units": width, "init": xavier},
            *draw(st.lists(st.sampled_from(BESIDE), max_size=1)),
            msgspec.to_builtins(draw(st.sampled_from(ACTIVATIONS))),
        ]
        way = draw(st.sampled_from(["plain", "plain", "chain", "residual"]))
        if way == "residual":
            shortcut = [{"layer": "dense", "units": width, "init": xavier}]
            row = [{"layer": "residual", "layers": row, "shortcut": shortcut}]
        found += [{"layer": "chain", "layers": row}] if way == "chain" else row
    return [*found, {"layer": "dense", "units": units, "init": xavier}]


@st.composite
def image_layers(draw: st.DrawFn, outputs: int) -> list[dict[str, Any]]:
    """Draw a convolutional network for images of 4x5, as plain data."""
    init = Xavier()
    pools: list[AnyLayer] = [MaxPool2D(2), MaxPool2D((2, 3), 1), AvgPool2D((1, 2))]
    size = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    layers: list[AnyLayer] = [Conv2D(draw(st.integers(1, 20)), size, padding=1, init=init)]
    layers += draw(st.lists(st.sampled_from([ReLU(), Tanh()]), max_size=1))
    layers += draw(st.lists(st.sampled_from(pools), max_size=1))  # a second may not fit
    if draw(st.booleans()):
        units, stride = draw(st.integers(1, 20)), draw(st.integers(1, 2))
        layers.append(Conv2D(units, (1, 2), stride, padding=(0, 1), init=init))
    return Network((4, 5), [*layers, Flatten(), Dense(outputs, init)]).description()


class Data:
    """Small data sets for all kinds of losses, prepared once in both dtypes."""

    def __init__(self, folder: Path, rows: int = 57) -> None:
        random = np.random.default_rng(5)
        x = random.standard_normal((rows, 4, 5))
        targets = {
            "classes": np.arange(rows) % 3,
            "two": np.arange(rows) % 2,
            "regression": x[:, 0, :2] - x[:, 1, :2],
            "several": (x[:, 0, :2] > 0).astype(float),
        }
        targets |= {f"weighed {name}": targets[name] for name in ("classes", "regression")}
        weights = random.integers(0, 4, rows)
        self.folders = {
            (name, dtype): prepare_arrays(
                folder / f"{name}-{dtype}",
                x_train=x,
                t_train=t,
                x_test=x[:9],
                t_test=t[:9],
                w_train=weights if name.startswith("weighed") else None,
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


class Told:
    """Keeps how many pieces were said to be done."""

    def __init__(self) -> None:
        self.pieces: list[int] = []

    def __call__(self, pieces: int = 0) -> None:
        self.pieces.append(pieces)


def lockstep_digests(
    make_job: Callable[[], Job], workers: int, kind: str, random: Random
) -> list[str]:
    """Return the digest after every step, with a thread for each rank of the shared exchange."""
    found = lockstep_steps(make_job, workers, kind, random)
    return [digest(step.after.parameters) for step in found]


def lockstep_steps(
    make_job: Callable[[], Job], workers: int, kind: str, random: Random
) -> list[Step]:
    """Return every step, with a thread for each rank of the shared exchange."""
    job = make_job()
    shared = shared_memory(job, workers)
    inherited = Inheritance(workers, "events" if kind == "events" else "flags")
    states = [copied(shared.states[0])]
    losses: list[float] = []
    failures: list[BaseException] = []

    def collect() -> None:
        losses.append(float(shared.step_losses[len(losses) % RING]))
        states.append(copied(shared.states[len(losses) % 2]))

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
    return [
        Step(number, loss, before, after)
        for number, (loss, (before, after)) in enumerate(zip(losses, pairwise(states), strict=True))
    ]
