"""The update rules as they were published, forwards and turned round; a table of them.

For another optimizer, write its direction and what it was given, and name it in `BOOK`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.reference.bounded import Bounded
from dptrain.gradcheck.updates.numbers import Numbers, complement, root, sign

Array = NDArray[Any]


class At(NamedTuple):
    """Where a rule is applied, perhaps with a slip.

    Attributes:
        e: the settled experiment.
        state: of the optimizer, by name, in the published scale; rules update it.
        t: the step, counted from 1.
        kept: factor of what is kept of the velocity, or of the first moment.
        numbers: of the job's dtype.
        epsilon_inside: whether ε stands under the root.
    """

    e: Settled
    state: dict[str, Bounded]
    t: int
    kept: float
    numbers: Numbers
    epsilon_inside: bool

    def deviation(self, h: Bounded) -> Bounded:
        """Return ``√h + ε``."""
        epsilon = self.numbers.constant(self.e.coefficient("epsilon"))
        return root(h + epsilon) if self.epsilon_inside else root(h) + epsilon


class Done(NamedTuple):
    """What a step is seen to have done, flat arrays ``(size,)``.

    Attributes:
        e: the settled experiment.
        old: state before it, by name, in the published scale.
        new: state after it.
        before: the weights.
        after: the weights.
        rate: the learning rate.
        unit: roundoff of the job's dtype.
    """

    e: Settled
    old: dict[str, Array]
    new: dict[str, Array]
    before: Array
    after: Array
    rate: float
    unit: float

    def taken(self, name: str, kept: float, share: float = 1.0) -> tuple[Array, Array]:
        """Return what a part of the state took in, and the size of what that is a difference of."""
        rest = kept * self.old[name]
        size = np.abs(self.new[name]) + np.abs(rest)
        return (self.new[name] - rest) / share, size / share


class Optimizer(NamedTuple):
    """An update rule.

    Attributes:
        direction: updates the state, and returns what the learning rate multiplies.
        given: reads off the gradient that came to the rule; beside it stands the size of what it
            is the difference of.
        scales: by name, what makes the published state of the state that a run keeps.
        decoupled: whether weight decay goes past the rule.
    """

    direction: Callable[[At, Bounded], Bounded]
    given: Callable[[Done], tuple[Array, Array]]
    scales: Callable[[Settled], dict[str, float]]
    decoupled: bool = False


def _sgd(at: At, g: Bounded) -> Bounded:  # noqa: ARG001 - one signature for all
    return g


def _given_to_sgd(done: Done) -> tuple[Array, Array]:
    size = np.abs(done.before) + np.abs(done.after)
    return (done.before - done.after) / done.rate, size / abs(done.rate)


def _velocity(at: At, g: Bounded) -> tuple[Bounded, Bounded]:
    mu = at.numbers.constant(at.e.coefficient("momentum"))
    at.state["velocity"] = v = mu * at.state["velocity"] * g.exactly(at.kept) + g
    return mu, v


def _momentum(at: At, g: Bounded) -> Bounded:
    return _velocity(at, g)[1]


def _nesterov(at: At, g: Bounded) -> Bounded:
    mu, v = _velocity(at, g)
    return g + mu * v


def _given_to_velocity(done: Done) -> tuple[Array, Array]:
    return done.taken("velocity", done.e.coefficient("momentum"))


def _adagrad(at: At, g: Bounded) -> Bounded:
    at.state["squares"] = h = at.numbers.floored(at.state["squares"] + g * g)
    return g / at.deviation(h)


def _rmsprop(at: At, g: Bounded) -> Bounded:
    at.state["squares"] = h = at.numbers.mixed(
        at.state["squares"], g * g, at.e.coefficient("decay")
    )
    return g / at.deviation(h)


def _given_as_squares(done: Done) -> tuple[Array, Array]:
    rho = done.e.coefficient("decay")
    kept, share = (1.0, 1.0) if done.e.optimizer == "adagrad" else (rho, 1 - rho)
    square, size = done.taken("squares", kept, share)
    found = np.sqrt(np.maximum(square, 0))
    # of what is far smaller than what it is read off, only the order of magnitude is known
    least = np.sqrt(done.unit * size)
    return np.sign(done.before - done.after) * found, size / np.maximum(found, least + 1e-300)


def _adam(at: At, g: Bounded) -> Bounded:
    state, mixed = at.state, at.numbers.mixed
    beta1, beta2 = at.e.coefficient("beta1"), at.e.coefficient("beta2")
    state["mean"] = m = mixed(state["mean"] * g.exactly(at.kept), g, beta1)
    state["squares"] = v = mixed(state["squares"], g * g, beta2)
    rests = (at.numbers.constant(complement(beta, at.t)) for beta in (beta1, beta2))
    with np.errstate(divide="ignore", invalid="ignore"):
        m, v = (each / rest for each, rest in zip((m, v), rests, strict=True))
        return m / at.deviation(v)


def _given_to_adam(done: Done) -> tuple[Array, Array]:
    beta1 = done.e.coefficient("beta1")
    return done.taken("mean", beta1, 1 - beta1)


def _lion(at: At, g: Bounded) -> Bounded:
    old = at.state["mean"] * g.exactly(at.kept)
    at.state["mean"] = at.numbers.mixed(old, g, at.e.coefficient("beta2"))
    return sign(at.numbers.mixed(old, g, at.e.coefficient("beta1")))


def _given_to_lion(done: Done) -> tuple[Array, Array]:
    beta2 = done.e.coefficient("beta2")
    return done.taken("mean", beta2, 1 - beta2)


def _moments(e: Settled) -> dict[str, float]:
    return {"mean": 1 - e.coefficient("beta1"), "squares": 1 - e.coefficient("beta2")}


BOOK: dict[str, Optimizer] = {
    "sgd": Optimizer(_sgd, _given_to_sgd, lambda _: {}),
    "momentum": Optimizer(_momentum, _given_to_velocity, lambda _: {"velocity": 1.0}),
    "nesterov": Optimizer(_nesterov, _given_to_velocity, lambda _: {"velocity": 1.0}),
    "adagrad": Optimizer(_adagrad, _given_as_squares, lambda _: {"squares": 1.0}),
    "rmsprop": Optimizer(
        _rmsprop, _given_as_squares, lambda e: {"squares": 1 - e.coefficient("decay")}
    ),
    "adam": Optimizer(_adam, _given_to_adam, _moments),
    "adamw": Optimizer(_adam, _given_to_adam, _moments, decoupled=True),
    "lion": Optimizer(
        _lion, _given_to_lion, lambda e: {"mean": 1 - e.coefficient("beta2")}, decoupled=True
    ),
}


def optimizer_of(job: Job) -> Optimizer:
    """Return the rule that a job's optimizer should be."""
    return BOOK[job.experiment.optimizer]


def state_scales(job: Job) -> dict[str, float]:
    """Return by name what makes the published state of the state that a run keeps."""
    return optimizer_of(job).scales(job.experiment)


def decouples(job: Job) -> bool:
    """Return whether weight decay goes past the rule of a job's optimizer."""
    return optimizer_of(job).decoupled
