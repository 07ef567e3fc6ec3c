"""The command line of a peer, and its one line of JSON."""

import argparse
import json
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.peers.jobs import JOBS, Job


class Options(NamedTuple):
    """What a peer is asked to do."""

    job: Job
    steps: int
    threads: int


class Timing(NamedTuple):
    """What a peer found."""

    step_seconds: float
    steps: int
    final_loss: float | None = None

    def line(self) -> str:
        """Return the JSON that the peer prints."""
        return json.dumps(self._asdict())


def options() -> Options:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", choices=list(JOBS), required=True)
    parser.add_argument("--steps", type=int, help="by default the job's own number")
    parser.add_argument("--threads", type=int, default=1, help="for programs of one process")
    found = parser.parse_args()
    job = JOBS[found.job]
    return Options(job, found.steps or job.steps, found.threads)


def warm_up_of(steps: int) -> int:
    """Return how many steps go before those that are timed."""
    return max(5, steps // 10)


def timed(step: Callable[[int], float], steps: int) -> Timing:
    """Time ``step``, which returns its loss, after a tenth of the steps as warm-up."""
    warm_up = warm_up_of(steps)
    loss = 0.0
    for i in range(warm_up):
        loss = step(i)
    started = time.perf_counter()
    for i in range(warm_up, warm_up + steps):
        loss = step(i)
    return Timing((time.perf_counter() - started) / steps, steps, loss)
