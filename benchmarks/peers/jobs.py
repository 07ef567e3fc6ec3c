"""The jobs that every program does, and what every program does alike.

Each epoch is shuffled, the rows of a minibatch are gathered from the training array in every step,
and the loss is computed in every step, because dptrain does all of this too.
"""

from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import epoch_order, open_dataset
from dptrain.data.prepared import prepare

# Settings of the optimizers, the defaults of dptrain and of PyTorch
MOMENTUM = 0.9
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Job(NamedTuple):
    """A network, how it is trained, and how many steps are timed.

    ``kind`` is ``batch-norm`` where a batch normalisation stands before each activation, and
    ``conv`` where the first hidden layer is a convolution of 30 filters of 5 x 5, with 2 x 2 max
    pooling behind its activation. Momentum is ``v ← μ v + g``, ``w ← w - lr v``, as in PyTorch.
    """

    sizes: tuple[int, ...]
    activation: str
    batch: int
    optimizer: str
    lr: float
    steps: int
    kind: Literal["dense", "batch-norm", "conv"] = "dense"

    @property
    def net(self) -> str:
        """The sizes, joined by hyphens."""
        return "-".join(map(str, self.sizes))

    def part(self, rank: int, world: int) -> slice:
        """Return which rows of a minibatch are a rank's."""
        size = self.batch // world
        return slice(rank * size, (rank + 1) * size)


JOBS = {
    "small": Job((784, 50, 10), "sigmoid", 100, "sgd", 0.1, 3000),
    "three-layer": Job((784, 50, 30, 20, 10), "relu", 100, "momentum", 0.01, 3000),
    "large": Job((784, 1024, 1024, 10), "relu", 512, "adam", 1e-3, 60),
    "large-128": Job((784, 1024, 1024, 10), "relu", 128, "adam", 1e-3, 200),
    "batch-norm": Job((784, 50, 30, 20, 10), "relu", 100, "momentum", 0.01, 2000, "batch-norm"),
    "conv": Job((784, 30 * 12 * 12, 100, 10), "relu", 100, "adam", 1e-3, 150, "conv"),
}


class Rows:
    """MNIST's training rows, and the minibatches of a job in order."""

    def __init__(self, job: Job) -> None:
        dataset = open_dataset(prepare("mnist", dtype="float32"), validation=0.0, test=0.0, seed=0)
        x, t = dataset.train.take(np.arange(len(dataset.train)), np.float32)
        self.x: NDArray[np.float32] = x.reshape(-1, 784)
        self.t: NDArray[np.int64] = t
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
    return [
        (
            (random.standard_normal((i, o)) * np.sqrt(2 / i)).astype(np.float32),
            np.zeros(o, np.float32),
        )
        for i, o in pairwise(job.sizes)
    ]
