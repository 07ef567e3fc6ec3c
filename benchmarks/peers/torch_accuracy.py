"""PyTorch does a dptrain experiment until it is accurate enough: one process, or a rank of `ranks`.

It begins with dptrain's weights and takes dptrain's minibatches and learning rates. MNIST's test
set is evaluated once an epoch, by all ranks together; the loss of a step is not read.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.parallel import DistributedDataParallel

from dptrain.data.dataset import Split, open_dataset
from dptrain.experiment.defaults import settle
from dptrain.experiment.files import read_toml
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.nn.network import Network

ACTIVATIONS = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid, "tanh": torch.nn.Tanh}


def job_of(example: Path) -> Job:
    """Return the job of an experiment file."""
    given = build(Experiment, read_toml(example)["experiment"], str(example))
    data = open_dataset(prepared_data(given), validation=0.0, test=0.0, seed=given.seed)
    return Job(settle(given, 1, data.classes, len(data.train), data.digest), data)


def model_of(job: Job) -> torch.nn.Sequential:
    """Return the network, which must be of dense layers and activations, with its weights."""
    assert isinstance(job.network, Network)
    weights = job.network.views(job.initial_parameters())
    found: list[torch.nn.Module] = []
    for name, layer in zip(job.network.names, job.network.layers, strict=True):
        if layer.kind == "dense":
            w = weights[f"{name}.W"]
            linear = torch.nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w.T.copy()))
                linear.bias.copy_(torch.from_numpy(weights[f"{name}.b"].copy()))
            found.append(linear)
        elif layer.kind != "flatten":
            found.append(ACTIVATIONS[layer.kind]())
    return torch.nn.Sequential(*found)


def optimizer_of(job: Job, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return the experiment's optimizer in PyTorch's faster form on CPU."""
    e = job.experiment
    if e.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=e.lr, foreach=True)
    if e.optimizer not in ("sgd", "momentum", "nesterov"):
        raise SystemExit(f"benchmarks.peers.torch_accuracy does not know {e.optimizer}")
    return torch.optim.SGD(
        parameters,
        lr=e.lr,
        momentum=e.momentum or 0.0,
        nesterov=e.optimizer == "nesterov",
        foreach=True,
    )


class Rank:
    """One rank's view of the training: its part of every minibatch, and of the test set."""

    def __init__(self, job: Job) -> None:
        self.number = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.job = job
        self.model: torch.nn.Module = model_of(job)
        if self.world > 1:
            torch.distributed.init_process_group("gloo")
            self.model = DistributedDataParallel(self.model)
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer = optimizer_of(job, list(self.model.parameters()))

    def part(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return this rank's rows."""
        size = len(rows) / self.world
        return rows[round(self.number * size) : round((self.number + 1) * size)]

    def step(self, number: int) -> None:
        """Do one step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.job.updater.schedule(number)
        x, t = _gathered(self.job.dataset.train, self.part(self.job.minibatch(number)))
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.model(x), t).backward()
        self.optimizer.step()

    def accuracy(self) -> float:
        """Return the fraction of the test rows that are classified correctly."""
        test = self.job.dataset.test
        x, t = _gathered(test, self.part(np.arange(len(test))))
        with torch.no_grad():
            correct = (self.model(x).argmax(1) == t).sum()
        if self.world > 1:
            torch.distributed.all_reduce(correct)
        return int(correct) / len(test)


def _gathered(split: Split, rows: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs ``(rows, 784)`` and labels ``(rows,)``."""
    x, t = split.take(rows, np.float32)
    return torch.from_numpy(x).flatten(1), torch.from_numpy(t)


def main() -> None:
    """Train; rank 0 prints one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--example", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--target", type=float, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    job = job_of(asked.example)
    rank = Rank(job)
    accuracy, steps = 0.0, 0
    while accuracy < asked.target and steps < job.total_steps:
        rank.step(steps)
        steps += 1
        if steps % job.steps_per_epoch == 0 or steps == job.total_steps:
            accuracy = rank.accuracy()
    if rank.number == 0:
        epochs = steps / job.steps_per_epoch
        print(json.dumps({"test_accuracy": accuracy, "epochs": epochs}), flush=True)
    if rank.world > 1:
        torch.distributed.barrier()  # the other rank is as far
        # gloo's threads now and then abort a process that ends by itself
        os._exit(0)


if __name__ == "__main__":
    main()
