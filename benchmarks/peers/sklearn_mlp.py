"""scikit-learn's MLPClassifier: one `partial_fit` for every minibatch of the job.

It does somewhat other work than the programs beside it: it checks its arguments and encodes the
labels in every call, clips probabilities before it takes their logarithm, and its Adam adds epsilon
before correcting the bias. Its first call draws weights of its own, which are then overwritten
with everyone's; the optimizer keeps a trace of that one step. There is no L2 penalty.
"""

import numpy as np
from sklearn.neural_network import MLPClassifier

from benchmarks.peers.jobs import BETA1, BETA2, EPSILON, MOMENTUM, Job, Rows, initial_weights
from benchmarks.peers.timing import options, timed


class Trainer:
    """The classifier and the rows that it is given."""

    def __init__(self, job: Job) -> None:
        self.rows = Rows(job)
        self.x = np.empty((job.batch, job.sizes[0]), np.float32)
        self.t = np.empty(job.batch, np.int64)
        self.classifier = MLPClassifier(
            hidden_layer_sizes=job.sizes[1:-1],
            activation="relu" if job.activation == "relu" else "logistic",
            solver="adam" if job.optimizer == "adam" else "sgd",
            alpha=0.0,
            batch_size=job.batch,
            learning_rate_init=job.lr,
            shuffle=False,
            momentum=MOMENTUM if job.optimizer == "momentum" else 0.0,
            nesterovs_momentum=False,
            beta_1=BETA1,
            beta_2=BETA2,
            epsilon=EPSILON,
        )
        self._gather(0)
        self.classifier.partial_fit(self.x, self.t, classes=np.arange(job.sizes[-1]))
        for i, (w, b) in enumerate(initial_weights(job)):
            self.classifier.coefs_[i][...] = w
            self.classifier.intercepts_[i][...] = b

    def _gather(self, number: int) -> None:
        rows = self.rows.minibatch(number)
        self.rows.x.take(rows, 0, self.x, "clip")
        self.rows.t.take(rows, 0, self.t, "clip")

    def step(self, number: int) -> float:
        """Do one step; return its loss."""
        self._gather(number)
        self.classifier.partial_fit(self.x, self.t)
        return float(self.classifier.loss_)


if __name__ == "__main__":
    asked = options()
    print(timed(Trainer(asked.job).step, asked.steps).line())
