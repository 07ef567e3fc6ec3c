"""The matrix products of half a minibatch and nothing else, on 2 cores at the same time.

What is left of a step for 2 workers when gathering, activations, exchange and update cost nothing.
It prints the time of the slower process.
"""

import multiprocessing
import os
from itertools import pairwise
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

import numpy as np

from benchmarks.peers.cores import bind, threads
from benchmarks.peers.jobs import Job
from benchmarks.peers.timing import Timing, options, timed

WORLD = 2
PATIENCE = 60.0  # seconds for the other process to start; it may have failed


class Products:
    """Forward products, weight gradients, and input gradients of all layers but the first."""

    def __init__(self, job: Job) -> None:
        random = np.random.default_rng(0)
        rows = job.batch // WORLD
        values = [random.standard_normal((rows, n), np.float32) for n in job.sizes]
        weights = [random.standard_normal(pair, np.float32) for pair in pairwise(job.sizes)]
        self.calls: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for i, w in enumerate(weights):
            self.calls.append((values[i], w, np.empty_like(values[i + 1])))
        for i in reversed(range(len(weights))):
            self.calls.append((values[i].T, values[i + 1], np.empty_like(weights[i])))
            if i:
                self.calls.append((values[i + 1], weights[i].T, np.empty_like(values[i])))

    def step(self, _: int) -> float:
        """Compute the products of one step; there is no loss."""
        for left, right, out in self.calls:
            np.matmul(left, right, out=out)
        return 0.0


def rank(number: int, start: Barrier, found: "SimpleQueue[float]") -> None:
    """Time one process beside the other."""
    bind(number)
    asked = options()
    products = Products(asked.job)
    start.wait(PATIENCE)
    found.put(timed(products.step, asked.steps).step_seconds)


def main() -> None:
    """Run both processes and print what the slower one took."""
    asked = options()
    os.environ |= threads(1)
    context = multiprocessing.get_context("spawn")  # BLAS reads the environment when it is loaded
    start, found = context.Barrier(WORLD), context.SimpleQueue()
    ranks = [context.Process(target=rank, args=(n, start, found)) for n in range(WORLD)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join()
    if any(each.exitcode for each in ranks):
        raise SystemExit("a process failed")
    print(Timing(max(found.get() for _ in ranks), asked.steps).line())


if __name__ == "__main__":
    main()
