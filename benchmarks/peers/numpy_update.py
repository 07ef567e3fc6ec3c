"""The update rules of the jobs in straight NumPy: flat, in place, in chunks."""

import math

import numpy as np

from benchmarks.peers.jobs import BETA1, BETA2, EPSILON, MOMENTUM, Job

CHUNK = 65536  # elements; smaller ones cost more in calls than they save in cache misses
SLOTS = {"sgd": 0, "momentum": 1, "adam": 2}


class Update:
    """The rule of one job, bound to its parameters and their gradient, which is used up."""

    def __init__(self, job: Job, parameters: np.ndarray, gradient: np.ndarray) -> None:
        self.lr = job.lr
        slots = [np.zeros_like(parameters) for _ in range(SLOTS[job.optimizer])]
        self.chunks = [
            [array[low : low + CHUNK] for array in (parameters, gradient, *slots)]
            for low in range(0, len(parameters), CHUNK)
        ]
        rules = {"sgd": self._sgd, "momentum": self._momentum, "adam": self._adam}
        self.rule = rules[job.optimizer]

    def __call__(self, number: int) -> None:
        """Do the update of a step, counted from 0."""
        self.rule(number + 1)

    def _sgd(self, _: int) -> None:
        for w, g in self.chunks:
            np.multiply(g, self.lr, out=g)
            np.subtract(w, g, out=w)

    def _momentum(self, _: int) -> None:
        for w, g, v in self.chunks:
            np.multiply(v, MOMENTUM, out=v)
            np.add(v, g, out=v)
            np.multiply(v, self.lr, out=g)
            np.subtract(w, g, out=w)

    def _adam(self, t: int) -> None:
        """Keep ``m / (1 - β₁)`` and ``v / (1 - β₂)``: all factors then are in two scalars."""
        r = math.sqrt((1 - BETA2**t) / (1 - BETA2))
        rate = self.lr * r * (1 - BETA1) / (1 - BETA1**t)
        for w, g, m, v in self.chunks:
            np.multiply(m, BETA1, out=m)
            np.add(m, g, out=m)
            np.multiply(g, g, out=g)
            np.multiply(v, BETA2, out=v)
            np.add(v, g, out=v)
            np.sqrt(v, out=g)
            np.add(g, EPSILON * r, out=g)
            np.divide(m, g, out=g)
            np.multiply(g, rate, out=g)
            np.subtract(w, g, out=w)
