r"""A network of your own, in plain NumPy, trained by several workers.

    dptrain train --model examples/own_network.py:TwoLayerNet \
        --model.args '{"input_size": 784, "hidden_size": 50, "output_size": 10}'

What it needs is ``params``, a dict of arrays, ``gradient(x, t)``, a dict of their gradients
averaged over the rows, and ``loss(x, t)``. Nothing here knows of workers.
"""

import numpy as np


def sigmoid(z):
    """Return 1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def softmax(z):
    """Return each row's softmax."""
    power = np.exp(z - z.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


class TwoLayerNet:
    """Two affine layers with a sigmoid between them, softmax and cross-entropy behind them."""

    def __init__(self, input_size, hidden_size, output_size, weight_init_std=0.01):
        self.params = {
            "W1": weight_init_std * np.random.randn(input_size, hidden_size),
            "b1": np.zeros(hidden_size),
            "W2": weight_init_std * np.random.randn(hidden_size, output_size),
            "b2": np.zeros(output_size),
        }

    def predict(self, x):
        """Return the probability of each class, ``(n, classes)``."""
        return self._forward(x)[1]

    def loss(self, x, t):
        """Return the mean cross-entropy with one-hot rows ``t``."""
        return -np.sum(t * np.log(self.predict(x) + 1e-7)) / len(x)

    def accuracy(self, x, t):
        """Return the fraction of rows whose likeliest class is theirs."""
        return np.mean(self.predict(x).argmax(axis=1) == t.argmax(axis=1))

    def gradient(self, x, t):
        """Return the gradient of the mean loss, by parameter."""
        hidden, y = self._forward(x)
        d_out = (y - t) / len(x)
        d_hidden = d_out @ self.params["W2"].T * hidden * (1 - hidden)
        return {
            "W1": x.T @ d_hidden,
            "b1": d_hidden.sum(axis=0),
            "W2": hidden.T @ d_out,
            "b2": d_out.sum(axis=0),
        }

    def _forward(self, x):
        hidden = sigmoid(x @ self.params["W1"] + self.params["b1"])
        return hidden, softmax(hidden @ self.params["W2"] + self.params["b2"])
