r"""A loss and its gradient as one function, trained by several workers.

    dptrain train --model examples/own_function.py:loss_and_gradient \
        --model.args '{"hidden": 32}' --optimizer sgd --lr 0.5

Beside the function the file says what the parameters begin with, ``initial_params``, and, so that
accuracies are shown, how to ``predict``.
"""

import numpy as np


def initial_params(inputs=784, hidden=32, classes=10):
    """Return the parameters of a network with one hidden layer."""
    return {
        "W1": np.random.randn(inputs, hidden) / np.sqrt(inputs),
        "b1": np.zeros(hidden),
        "W2": np.random.randn(hidden, classes) / np.sqrt(hidden),
        "b2": np.zeros(classes),
    }


def predict(params, x):
    """Return the logits ``(n, classes)``."""
    return np.tanh(x @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]


def loss_and_gradient(params, x, t):
    """Return the mean cross-entropy with one-hot rows ``t``, and its gradient by parameter."""
    hidden = np.tanh(x @ params["W1"] + params["b1"])
    logits = hidden @ params["W2"] + params["b2"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = np.mean(np.sum(t * (log_sum - shifted), axis=1))

    d_logits = (np.exp(shifted - log_sum) - t) / len(x)
    d_hidden = d_logits @ params["W2"].T * (1 - hidden**2)
    return loss, {
        "W1": x.T @ d_hidden,
        "b1": d_hidden.sum(axis=0),
        "W2": hidden.T @ d_logits,
        "b2": d_logits.sum(axis=0),
    }
