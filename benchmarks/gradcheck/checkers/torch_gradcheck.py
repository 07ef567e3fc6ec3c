"""PyTorch's `torch.autograd.gradcheck`, in its slow and its fast mode, with its own defaults."""

from typing import Any

import torch
from numpy.typing import NDArray

from benchmarks.gradcheck.checkers.checker import Checker
from benchmarks.gradcheck.problems import Problem


def _accepts(problem: Problem, gradient: NDArray[Any], *, fast: bool) -> bool:
    class Loss(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004 - PyTorch passes it
            return torch.tensor(problem.value(x.detach().numpy()), dtype=torch.float64)

        @staticmethod
        def backward(ctx: Any, factor: Any) -> Any:  # noqa: ARG004 - PyTorch passes it
            return factor * torch.from_numpy(gradient)

    x = torch.from_numpy(problem.x.copy()).requires_grad_()
    return bool(torch.autograd.gradcheck(Loss.apply, (x,), fast_mode=fast, raise_exception=False))


def _slow(problem: Problem, gradient: NDArray[Any]) -> bool:
    return _accepts(problem, gradient, fast=False)


def _fast(problem: Problem, gradient: NDArray[Any]) -> bool:
    return _accepts(problem, gradient, fast=True)


CHECKERS = (
    Checker(
        "torch gradcheck, slow",
        _slow,
        "central differences of step 1e-6 for each element; rtol 1e-3, atol 1e-5",
    ),
    Checker(
        "torch gradcheck, fast",
        _fast,
        "the same along one direction without signs, always of the same seed",
    ),
)
