"""PyTorch trained until it is accurate enough, as one process or as one rank of `ranks`.

MNIST's test set is evaluated once an epoch, by all ranks together; the loss of a step is not read.
"""

import argparse
import json
import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.parallel import DistributedDataParallel

from benchmarks.peers.jobs import Job
from benchmarks.peers.torch_job import build, optimizer
from dptrain.data.dataset import Split, open_dataset
from dptrain.data.prepared import prepare
from dptrain.data.sampling import epoch_order


class Rank:
    """One rank's view of the training: its part of every minibatch, and of the test set."""

    def __init__(self, job: Job, seed: int) -> None:
        self.number = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.job, self.seed = job, seed
        self.model: torch.nn.Module = build(job)
        if self.world > 1:
            torch.distributed.init_process_group("gloo")
            self.model = DistributedDataParallel(self.model)
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer = optimizer(job, self.model.parameters())
        data = open_dataset(prepare("mnist", dtype="float32"), validation=0.0, test=0.0, seed=0)
        self.train, self.test = data.train, data.test

    def part(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return this rank's rows."""
        size = len(rows) / self.world
        return rows[round(self.number * size) : round((self.number + 1) * size)]

    def epoch(self, number: int) -> None:
        """Train once with every row; the last minibatch may be smaller."""
        order = epoch_order(self.seed, number, len(self.train))
        for start in range(0, len(order), self.job.batch):
            x, t = _gathered(self.train, self.part(order[start : start + self.job.batch]))
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(self.model(x), t).backward()
            self.optimizer.step()

    def accuracy(self) -> float:
        """Return the fraction of the test rows that are classified correctly."""
        x, t = _gathered(self.test, self.part(np.arange(len(self.test))))
        with torch.no_grad():
            correct = (self.model(x).argmax(1) == t).sum()
        if self.world > 1:
            torch.distributed.all_reduce(correct)
        return int(correct) / len(self.test)


def _gathered(split: Split, rows: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs ``(rows, 784)`` and labels ``(rows,)``."""
    x, t = split.take(rows, np.float32)
    return torch.from_numpy(x).flatten(1), torch.from_numpy(t)


def main() -> None:
    """Train; rank 0 prints one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    for name in ("activation", "optimizer"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("batch", "epochs", "seed", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("lr", "target"):
        parser.add_argument(f"--{name}", type=float, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    sizes = tuple(asked.sizes)
    job = Job(sizes, asked.activation, asked.batch, asked.optimizer, asked.lr, steps=0)
    rank = Rank(job, asked.seed)
    accuracy, epochs = 0.0, 0
    while accuracy < asked.target and epochs < asked.epochs:
        rank.epoch(epochs)
        epochs += 1
        accuracy = rank.accuracy()
    if rank.world > 1:
        torch.distributed.destroy_process_group()
    if rank.number == 0:
        print(json.dumps({"test_accuracy": accuracy, "epochs": epochs}))


if __name__ == "__main__":
    main()
