"""The jobs that every program does, and what every program does alike.

Each epoch is shuffled, the rows of a minibatch are gathered from the training array in every step,
and the loss is computed in every step, because dptrain does all of this too.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare
from dptrain.data.sampling import epoch_order


class Job(NamedTuple):
    """A network, how it is trained, and how many steps are timed."""

    sizes: tuple[int, ...]
    activation: str
    batch: int
    optimizer: str
    lr: float
    steps: int


JOBS = {
    "small": Job((784, 50, 10), "sigmoid", 100, "sgd", 0.1, 3000),
    "large": Job((784, 1024, 1024, 10), "relu", 512, "adam", 1e-3, 60),
}


class Rows:
    """MNIST's training rows, and the minibatches of a job in order."""

    def __init__(self, job: Job) -> None:
        dataset = open_dataset(prepare("mnist", dtype="float32"), validation=0.0, test=0.0, seed=0)
        self.x: NDArray[np.float32] = np.array(dataset.train.inputs).reshape(-1, 784)
        self.t: NDArray[np.int64] = np.array(dataset.train.targets)
        self.batch = job.batch
        self._order = epoch_order(0, 0, len(self.x))
        self._epoch = 0

    def minibatch(self, step: int) -> NDArray[np.intp]:
        """Return the rows of a step, always a full minibatch."""
        epoch, position = divmod(step, len(self.x) // self.batch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(0, epoch, len(self.x))
        return self._order[position * self.batch : (position + 1) * self.batch]


def initial_weights(job: Job) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return He weights and zero biases, the same for every program."""
    random = np.random.default_rng(0)
    pairs = zip(job.sizes[:-1], job.sizes[1:], strict=True)
    return [
        (
            (random.standard_normal((i, o)) * np.sqrt(2 / i)).astype(np.float32),
            np.zeros(o, np.float32),
        )
        for i, o in pairs
    ]


def arguments(*, threads: bool = False) -> argparse.Namespace:
    """Return the parsed command line of a peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", choices=list(JOBS), required=True)
    parser.add_argument("--steps", type=int, default=0)
    if threads:
        parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def timed(step: Callable[[int], float], steps: int) -> str:
    """Run ``step`` with a tenth of the steps as warm-up; return the JSON line."""
    warm_up = max(5, steps // 10)
    loss = 0.0
    for i in range(warm_up):
        loss = step(i)
    started = time.perf_counter()
    for i in range(warm_up, warm_up + steps):
        loss = step(i)
    seconds = time.perf_counter() - started
    return json.dumps({"step_seconds": seconds / steps, "steps": steps, "final_loss": loss})
