"""The job in PyTorch, as its tutorials write it; for one process or for one rank of DDP."""

from collections.abc import Iterable

import torch

from benchmarks.peers.jobs import MOMENTUM, Job, Rows, initial_weights


def build(job: Job) -> torch.nn.Sequential:
    """Return the network; a dense one with the weights that every program begins with."""
    if job.kind == "conv":
        return _convolutional(job)
    layers: list[torch.nn.Module] = []
    for i, (w, b) in enumerate(initial_weights(job)):
        linear = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T.copy()))
            linear.bias.copy_(torch.from_numpy(b))
        layers.append(linear)
        if i < len(job.sizes) - 2:
            if job.kind == "batch-norm":
                layers.append(torch.nn.BatchNorm1d(w.shape[1]))
            layers.append(torch.nn.ReLU() if job.activation == "relu" else torch.nn.Sigmoid())
    return torch.nn.Sequential(*layers)


def _convolutional(job: Job) -> torch.nn.Sequential:
    *_, flat, hidden, classes = job.sizes
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 28, 28)),
        torch.nn.Conv2d(1, 30, 5),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(flat, hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, classes),
    )


def optimizer(job: Job, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return the job's optimizer in PyTorch's faster form on CPU: one call for all tensors."""
    if job.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=job.lr, foreach=True)
    momentum = MOMENTUM if job.optimizer == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=job.lr, momentum=momentum, foreach=True)


class Trainer:
    """Steps of one rank: ``world`` ranks take equal parts of every minibatch."""

    def __init__(self, job: Job, model: torch.nn.Module, rank: int = 0, world: int = 1) -> None:
        self.model = model
        self.rows = Rows(job)
        self.x = torch.from_numpy(self.rows.x)
        self.t = torch.from_numpy(self.rows.t)
        self.part = job.part(rank, world)
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer = optimizer(job, model.parameters())

    def step(self, number: int) -> float:
        """Do one step; return its loss."""
        rows = torch.from_numpy(self.rows.minibatch(number)[self.part])
        x, t = self.x.index_select(0, rows), self.t.index_select(0, rows)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model(x), t)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())
