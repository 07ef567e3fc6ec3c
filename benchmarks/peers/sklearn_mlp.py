"""scikit-learn's MLPClassifier, by its own loop over minibatches: `fit`.

`partial_fit`, one call for every minibatch, takes 2.5 ms for the smallest job: most of it checks
arguments and encodes labels. `fit` does that once, so what a step takes is the difference between
two epochs and one. It draws its own initial weights, shuffles each epoch, clips probabilities
before it takes their logarithm, and its Adam adds epsilon before correcting the bias. There is no
L2 penalty.
"""

import time
import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.peers.jobs import BETA1, BETA2, EPSILON, MOMENTUM, Job, Rows
from benchmarks.peers.timing import Timing, options


def classifier(job: Job, epochs: int) -> MLPClassifier:
    """Return the classifier of a job."""
    return MLPClassifier(
        hidden_layer_sizes=job.sizes[1:-1],
        activation="relu" if job.activation == "relu" else "logistic",
        solver="adam" if job.optimizer == "adam" else "sgd",
        alpha=0.0,
        batch_size=job.batch,
        learning_rate_init=job.lr,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=epochs + 1,
        random_state=0,
        momentum=MOMENTUM if job.optimizer == "momentum" else 0.0,
        nesterovs_momentum=False,
        beta_1=BETA1,
        beta_2=BETA2,
        epsilon=EPSILON,
    )


def timed(job: Job, steps: int) -> Timing:
    """Return what a step of the second epoch takes; epochs have as many steps as fit the rows."""
    rows = Rows(job)
    steps = min(steps, len(rows.x) // job.batch)
    x, t = rows.x[: steps * job.batch], rows.t[: steps * job.batch]
    took, loss = [], 0.0
    for epochs in (1, 2):
        made = classifier(job, epochs)
        started = time.perf_counter()
        made.fit(x, t)
        took.append(time.perf_counter() - started)
        loss = float(made.loss_)
    return Timing((took[1] - took[0]) / steps, steps, loss)


if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    asked = options()
    print(timed(asked.job, asked.steps).line())
