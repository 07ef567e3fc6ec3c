"""The job in straight NumPy, one process, one BLAS thread: what a careful person writes by hand.

Everything is preallocated and computed in place; nothing is general. This is what dptrain's inline
exchange is held against.
"""

import math

import numpy as np

from benchmarks.peers.jobs import JOBS, Job, Rows, arguments, initial_weights, timed

CHUNK = 65536


class Network:
    """Layers, buffers and optimizer state of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rows = Rows(job)
        pairs = initial_weights(job)
        self.flat = np.concatenate([a.reshape(-1) for pair in pairs for a in pair])
        self.gradient = np.empty_like(self.flat)
        self.mean = np.zeros_like(self.flat)
        self.squares = np.zeros_like(self.flat)
        self.W, self.b = self._views(self.flat)
        self.dW, self.db = self._views(self.gradient)
        self.x = [np.empty((job.batch, n), np.float32) for n in job.sizes]
        self.d = [np.empty((job.batch, n), np.float32) for n in job.sizes]
        self.t = np.empty(job.batch, np.int64)
        self.mask = [np.empty((job.batch, n), np.bool_) for n in job.sizes]
        self.slope = [np.empty((job.batch, n), np.float32) for n in job.sizes]
        self.top = np.empty((job.batch, 1), np.float32)
        self.range = np.arange(job.batch)
        self.scratch = np.empty(CHUNK, np.float32)

    def _views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        matrices, vectors, at = [], [], 0
        for i, o in zip(self.job.sizes[:-1], self.job.sizes[1:], strict=True):
            matrices.append(flat[at : at + i * o].reshape(i, o))
            vectors.append(flat[at + i * o : at + i * o + o])
            at += i * o + o
        return matrices, vectors

    def step(self, number: int) -> float:
        """Do one step; return its loss."""
        rows = self.rows.minibatch(number)
        np.take(self.rows.x, rows, axis=0, out=self.x[0], mode="clip")
        np.take(self.rows.t, rows, out=self.t, mode="clip")
        loss = self._forward()
        self._backward()
        if self.job.optimizer == "sgd":
            self._sgd()
        else:
            self._adam(number + 1)
        return loss

    def _forward(self) -> float:
        last = len(self.W) - 1
        for i in range(last + 1):
            y = self.x[i + 1]
            np.matmul(self.x[i], self.W[i], out=y)
            np.add(y, self.b[i], out=y)
            if i == last:
                break
            if self.job.activation == "relu":
                np.maximum(y, 0, out=y)
            else:
                np.negative(y, out=y)
                np.exp(y, out=y)
                np.add(y, 1, out=y)
                np.reciprocal(y, out=y)
        y, d = self.x[-1], self.d[-1]
        np.maximum.reduce(y, axis=1, out=self.top, keepdims=True)
        np.subtract(y, self.top, out=d)
        picked = d[self.range, self.t]
        np.exp(d, out=d)
        np.add.reduce(d, axis=1, out=self.top, keepdims=True)
        loss = float((np.log(self.top[:, 0]) - picked).mean())
        np.multiply(self.top, self.job.batch, out=self.top)
        np.divide(d, self.top, out=d)
        d[self.range, self.t] -= 1 / self.job.batch
        return loss

    def _backward(self) -> None:
        for i in range(len(self.W) - 1, -1, -1):
            d = self.d[i + 1]
            np.matmul(self.x[i].T, d, out=self.dW[i])
            np.add.reduce(d, axis=0, out=self.db[i])
            if i == 0:
                break
            back, y = self.d[i], self.x[i]
            np.matmul(d, self.W[i].T, out=back)
            if self.job.activation == "relu":
                np.greater(y, 0, out=self.mask[i])
                np.multiply(back, self.mask[i], out=back)
            else:
                np.subtract(1, y, out=self.slope[i])
                np.multiply(self.slope[i], y, out=self.slope[i])
                np.multiply(back, self.slope[i], out=back)

    def _sgd(self) -> None:
        np.multiply(self.gradient, self.job.lr, out=self.gradient)
        np.subtract(self.flat, self.gradient, out=self.flat)

    def _adam(self, t: int, beta1: float = 0.9, beta2: float = 0.999) -> None:
        r = math.sqrt((1 - beta2**t) / (1 - beta2))
        rate = self.job.lr * r * (1 - beta1) / (1 - beta1**t)
        for low in range(0, len(self.flat), CHUNK):
            high = min(low + CHUNK, len(self.flat))
            g, m, v = self.gradient[low:high], self.mean[low:high], self.squares[low:high]
            w, s = self.flat[low:high], self.scratch[: high - low]
            np.multiply(m, beta1, out=m)
            np.add(m, g, out=m)
            np.multiply(g, g, out=s)
            np.multiply(v, beta2, out=v)
            np.add(v, s, out=v)
            np.sqrt(v, out=s)
            np.add(s, 1e-8 * r, out=s)
            np.divide(m, s, out=s)
            np.multiply(s, rate, out=s)
            np.subtract(w, s, out=w)


if __name__ == "__main__":
    options = arguments()
    network = Network(JOBS[options.job])
    print(timed(network.step, options.steps or network.job.steps))
