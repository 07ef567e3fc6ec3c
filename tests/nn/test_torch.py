"""The layers that have no tests of their own with PyTorch: activations and the dense layer."""

from typing import Any

import numpy as np
import pytest

from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.composite import Residual
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.network import AnyLayer
from tests.nn.build import problem

ACTIVATIONS: dict[str, tuple[AnyLayer, Any]] = {
    "sigmoid": (Sigmoid(), lambda torch: torch.nn.Sigmoid()),
    "tanh": (Tanh(), lambda torch: torch.nn.Tanh()),
    "relu": (ReLU(), lambda torch: torch.nn.ReLU()),
    "identity": (Identity(), lambda torch: torch.nn.Identity()),
}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_dense_networks(name: str) -> None:
    torch = pytest.importorskip("torch")
    activation, theirs = ACTIVATIONS[name]
    layers: list[AnyLayer] = [
        Flatten(), Dense(5), activation, Residual([Dense(5), activation]), Dense(3)
    ]  # fmt: skip
    task = problem(layers, (2, 3), 11, seed=6, labels=True)
    linear = [torch.nn.Linear(*sizes).double() for sizes in ((6, 5), (5, 5), (5, 3))]
    names = ("dense1", "residual1.dense1", "dense2")
    views = task.network.views(task.parameters)
    for module, each in zip(linear, names, strict=True):
        module.weight.data = torch.from_numpy(views[f"{each}.W"].T.copy())
        module.bias.data = torch.from_numpy(views[f"{each}.b"].copy())
    bend = theirs(torch)
    hidden = bend(linear[0](torch.from_numpy(task.x).flatten(1)))
    outputs = linear[2](hidden + bend(linear[1](hidden)))
    loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(task.t))
    loss.backward()
    found = task.filled(4)
    ours = np.concatenate([y.reshape(-1, 3) for y in found.infer()])
    np.testing.assert_allclose(ours, outputs.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(task.loss(4), loss.item(), rtol=1e-13)
    gradients = task.network.views(task.gradient(4))
    for module, each in zip(linear, names, strict=True):
        expected = module.weight.grad.numpy().T
        np.testing.assert_allclose(gradients[f"{each}.W"], expected, rtol=1e-10, atol=1e-14)
        expected = module.bias.grad.numpy()
        np.testing.assert_allclose(gradients[f"{each}.b"], expected, rtol=1e-10, atol=1e-14)
