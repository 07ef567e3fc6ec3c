"""Small jobs to check, and runs of them that are made wrong in this process."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.exchange.engine import TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.gradcheck.distributed import Step, begin, steps
from tests.exchange.build import Data

Array = NDArray[Any]
Spoil = Callable[["Wrong"], None]

FLAT: dict[str, Any] = {"layer": "flatten"}


def dense(units: int) -> dict[str, Any]:
    return {"layer": "dense", "units": units, "init": {"init": "xavier"}}


LAYERS = [FLAT, dense(6), {"layer": "batchnorm"}, {"layer": "tanh"}, dense(3)]
PLAIN = [FLAT, dense(6), {"layer": "layernorm"}, {"layer": "tanh"}, dense(3)]


def experiment(**settings: Any) -> dict[str, Any]:
    """Return an experiment with shards of 3, 3, 3, 2 and 2 rows, and a last minibatch of 5."""
    return {
        "dataset": "classes", "dtype": "float64", "layers": LAYERS, "input_shape": [4, 5],
        "loss": "softmax-cross-entropy", "optimizer": "sgd", "lr": 0.1, "batch_size": 13,
        "shards": 5, "steps": 10, "seed": 3,
    } | settings  # fmt: skip


def weights(job: Job) -> Array:
    """Return weights none of which is 0, not even a bias."""
    random = np.random.default_rng(8)
    found: Array = job.initial_parameters() + 0.1 * random.standard_normal(job.network.size)
    return found


class Wrong(InlineEngine):
    """Trains in this process, and lets a test interfere.

    Attributes:
        before_update: is given step and reduced gradient, to be changed in place.
        after_step: is given the step, the weights and the state.
    """

    def __init__(self, job: Job, state: TrainingState) -> None:
        super().__init__(job, state.parameters.copy(), [s.copy() for s in state.slots])
        self.before_update: Callable[[int, Array], None] = lambda *_: None
        self.after_step: Callable[[int, Array, Array, list[Array]], None] = lambda *_: None

    def _update(self, step: int, gradient: Array) -> None:
        old = self.parameters.copy()
        self.before_update(step, gradient)
        super()._update(step, gradient)
        self.after_step(step, old, self.parameters, self.slots)


def untouched(engine: Wrong) -> None:
    """Let a run be as it should be."""


def wrong_steps(job: Job, spoil: Spoil, count: int = 3) -> list[Step]:
    """Return steps of a run that is not what it should be."""
    engine = Wrong(job, begin(job, weights(job)))
    spoil(engine)
    return list(steps(engine, 0, count))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))
