"""Train a network of your own on arrays of your own, with two workers.

No ``if __name__ == "__main__"`` is needed: workers never import this script.
"""

import numpy as np

import dptrain
from dptrain import Dense, Network, Sigmoid

random = np.random.default_rng(0)
x = random.standard_normal((2000, 2))
t = (x[:, 0] * x[:, 1] > 0).astype(int)  # are both coordinates of one sign?

network = Network(2, [Dense(16), Sigmoid(), Dense(2)])
result = dptrain.fit(network, (x, t), epochs=60, optimizer="adam", lr=0.03, workers=2)

print("test accuracy", result.epochs[-1].test_accuracy)
print("(1, 2) and (1, -2) are of class", result.network.classify([[1.0, 2.0], [1.0, -2.0]]))
print("digest", result.digest[:16], "in", result.run)
