"""Networks as people write them: layers that hold the arrays of ``params``."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = f"{EXAMPLES / 'own_network.py'}:TwoLayerNet"
FUNCTION = f"{EXAMPLES / 'own_function.py'}:loss_and_gradient"


def like_the_example(folder: Path, text: str, name: str = "net.py") -> str:
    """Write a file with a class Net, that of the example with other lines in it."""
    file = folder / name
    base = (EXAMPLES / "own_network.py").read_text()
    file.write_text(f"{base}\n\nclass Net(TwoLayerNet):\n{text}\n")
    return f"{file}:Net"


class Affine:
    def __init__(self, W: Any, b: Any) -> None:
        self.W, self.b = W, b

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy: Any) -> Any:
        self.dW, self.db = self.x.T @ dy, dy.sum(axis=0)
        return dy @ self.W.T


class Relu:
    def forward(self, x: Any) -> Any:
        self.mask = x <= 0
        return np.where(self.mask, 0, x)

    def backward(self, dy: Any) -> Any:
        return np.where(self.mask, 0, dy)


class Dropout:
    def forward(self, x: Any) -> Any:
        self.mask = np.random.rand(*x.shape) > 0.3
        return x * self.mask

    def backward(self, dy: Any) -> Any:
        return dy * self.mask


class Net:
    """Dense, ReLU, perhaps dropout, dense; softmax and cross-entropy of one-hot rows or labels."""

    def __init__(self, inputs: int = 20, hidden: int = 7, outputs: int = 3, drop: bool = False):
        draw = np.random.randn
        self.params = {
            "W1": draw(inputs, hidden) * 0.3,
            "b1": draw(hidden) * 0.1,
            "W2": draw(hidden, outputs) * 0.3,
            "b2": np.zeros(outputs),
        }
        p = self.params
        self.layers: OrderedDict[str, Any] = OrderedDict()
        self.layers["Affine1"] = Affine(p["W1"], p["b1"])
        self.layers["Relu"] = Relu()
        if drop:
            self.layers["Dropout"] = Dropout()
        self.layers["Affine2"] = Affine(p["W2"], p["b2"])

    def predict(self, x: Any, train: bool = False) -> Any:
        for name, layer in self.layers.items():
            if train or name != "Dropout":
                x = layer.forward(x)
        return x

    def loss(self, x: Any, t: Any, train: bool = False) -> Any:
        y = self.predict(x, train)
        y = y - y.max(axis=1, keepdims=True)
        log = y - np.log(np.exp(y).sum(axis=1, keepdims=True))
        self.d = (np.exp(log) - self._rows(t, y)) / len(x)
        return -np.sum(log * self._rows(t, y)) / len(x)

    def gradient(self, x: Any, t: Any) -> Any:
        self.loss(x, t, train=True)
        d = self.d
        for name in reversed(self.layers):
            d = self.layers[name].backward(d)
        first, last = self.layers["Affine1"], self.layers["Affine2"]
        return {"W1": first.dW, "b1": first.db, "W2": last.dW, "b2": last.db}

    @staticmethod
    def _rows(t: Any, y: Any) -> Any:
        return t if t.ndim == 2 else np.eye(y.shape[1])[t]


class Regression:
    """A line, with the half mean squared error; ``t`` may be flat."""

    def __init__(self) -> None:
        self.params = {"w": np.zeros(20), "b": np.zeros(1)}

    def predict(self, x: Any) -> Any:
        return x.reshape(len(x), -1) @ self.params["w"] + self.params["b"]

    def loss(self, x: Any, t: Any) -> Any:
        assert t.shape == (len(x),)
        return np.mean((self.predict(x) - t) ** 2) / 2

    def gradient(self, x: Any, t: Any) -> Any:
        error = (self.predict(x) - t) / len(x)
        return {"w": x.reshape(len(x), -1).T @ error, "b": error.sum(keepdims=True)}
