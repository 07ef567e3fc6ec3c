r"""The same loss as in own_function.py, differentiated by HIPS autograd: ``pip install autograd``.

    python examples/own_autograd.py        # do the two gradients agree?
    dptrain train --model examples/own_autograd.py:loss_and_gradient --optimizer sgd --lr 0.5

Write the forward pass only and train it; or write the backward pass too, and let autograd tell
whether it is right.
"""

import autograd.numpy as np
import own_function
from autograd import value_and_grad
from own_function import initial_params

__all__ = ["initial_params", "loss_and_gradient", "predict"]


def predict(params, x):
    """Return the logits ``(n, classes)``."""
    return np.dot(np.tanh(np.dot(x, params["W1"]) + params["b1"]), params["W2"]) + params["b2"]


def loss(params, x, t):
    """Return the mean cross-entropy with one-hot rows ``t``."""
    logits = predict(params, x)
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    log_sum = np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return np.mean(np.sum(t * (log_sum - shifted), axis=1))


loss_and_gradient = value_and_grad(loss)

if __name__ == "__main__":
    params = initial_params(inputs=20, hidden=8)
    x = np.random.randn(7, 20)
    t = np.eye(10)[np.arange(7)]
    _, expected = loss_and_gradient(params, x, t)
    _, found = own_function.loss_and_gradient(params, x, t)
    for name in params:
        print(f"{name}: largest difference {np.max(np.abs(found[name] - expected[name])):.1e}")
