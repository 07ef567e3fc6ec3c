"""The job in straight NumPy, one process, one BLAS thread: what a careful person writes by hand.

Everything is preallocated and computed in place; nothing is general. This is what dptrain's inline
exchange is held against. `numpy_mpi` is the same program for several ranks.
"""

from itertools import pairwise

import numpy as np

from benchmarks.peers.jobs import Job, Rows, initial_weights
from benchmarks.peers.numpy_update import Update
from benchmarks.peers.timing import options, timed


class Network:
    """Layers, buffers and optimizer state of one rank, which has equal parts of all minibatches.

    Attributes:
        message: the flat gradient with the loss behind it, both divided by the rows of the whole
            minibatch: summed over the ranks, it is that of the minibatch.
    """

    def __init__(self, job: Job, rank: int = 0, world: int = 1) -> None:
        self.sigmoid = job.activation == "sigmoid"
        self.rows = Rows(job)
        self.batch, self.part = job.batch, job.part(rank, world)
        size = job.batch // world
        flat = np.concatenate([a.reshape(-1) for pair in initial_weights(job) for a in pair])
        self.message = np.zeros(len(flat) + 1, np.float32)
        gradient = self.message[:-1]
        self.update = Update(job, flat, gradient)
        self.W, self.b = _views(flat, job.sizes)
        self.dW, self.db = _views(gradient, job.sizes)
        self.x = [np.empty((size, n), np.float32) for n in job.sizes]
        self.d = [np.empty((size, n), np.float32) for n in job.sizes]
        # what the derivative of an activation is computed in
        kind: type[np.float32 | np.bool_] = np.float32 if self.sigmoid else np.bool_
        self.slope: list[np.ndarray] = [np.empty((size, n), kind) for n in job.sizes]
        self.W_transposed = [W.T for W in self.W]
        self.x_transposed = [x.T for x in self.x]
        self.t = np.empty(size, np.int64)
        self.top = np.empty((size, 1), np.float32)
        self.losses = np.empty(size, np.float32)
        # positions of the labels' outputs in the flat array of outputs
        self.cells = np.empty(size, np.int64)
        self.first_cells = np.arange(size) * job.sizes[-1]
        self.flat_d = self.d[-1].reshape(-1)

    def step(self, number: int) -> float:
        """Do one step of a single process; return its loss."""
        self.gradients(number)
        self.update(number)
        return float(self.message[-1])

    def gradients(self, number: int) -> None:
        """Fill the message with this rank's share of a step."""
        rows = self.rows.minibatch(number)[self.part]
        # "clip" gathers straight into the output, the methods are faster than np.take
        self.rows.x.take(rows, 0, self.x[0], "clip")
        self.rows.t.take(rows, 0, self.t, "clip")
        self._forward()
        self._loss()
        self._backward()

    def _forward(self) -> None:
        last = len(self.W) - 1
        for i, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            y = self.x[i + 1]
            np.matmul(self.x[i], W, out=y)
            np.add(y, b, out=y)
            if i == last:
                return
            if self.sigmoid:
                np.negative(y, out=y)
                np.exp(y, out=y)
                np.add(y, 1, out=y)
                np.reciprocal(y, out=y)
            else:
                np.maximum(y, 0, out=y)

    def _loss(self) -> None:
        """Softmax with cross-entropy: the loss into the message, its gradient into ``d[-1]``."""
        y, d = self.x[-1], self.d[-1]
        np.maximum.reduce(y, axis=1, out=self.top, keepdims=True)
        np.subtract(y, self.top, out=d)
        np.add(self.first_cells, self.t, out=self.cells)
        at_label = self.flat_d.take(self.cells)
        np.exp(d, out=d)
        np.add.reduce(d, axis=1, out=self.top, keepdims=True)
        np.log(self.top[:, 0], out=self.losses)
        np.subtract(self.losses, at_label, out=self.losses)
        self.message[-1] = np.add.reduce(self.losses) / self.batch
        np.multiply(self.top, self.batch, out=self.top)
        np.divide(d, self.top, out=d)
        self.flat_d[self.cells] -= 1 / self.batch

    def _backward(self) -> None:
        for i in range(len(self.W) - 1, -1, -1):
            d = self.d[i + 1]
            np.matmul(self.x_transposed[i], d, out=self.dW[i])
            np.add.reduce(d, axis=0, out=self.db[i])
            if i == 0:
                return
            back, y, slope = self.d[i], self.x[i], self.slope[i]
            np.matmul(d, self.W_transposed[i], out=back)
            if self.sigmoid:
                np.subtract(1, y, out=slope)
                np.multiply(slope, y, out=slope)
            else:
                np.greater(y, 0, out=slope)
            np.multiply(back, slope, out=back)


def _views(flat: np.ndarray, sizes: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the weight matrices and bias vectors that lie in a flat array."""
    matrices, vectors, at = [], [], 0
    for i, o in pairwise(sizes):
        matrices.append(flat[at : at + i * o].reshape(i, o))
        vectors.append(flat[at + i * o : at + i * o + o])
        at += i * o + o
    return matrices, vectors


if __name__ == "__main__":
    asked = options()
    print(timed(Network(asked.job).step, asked.steps).line())
