"""Clipping and penalties with one thing wrong, before the rule gets the gradient."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.updates.optimizers import decouples
from dptrain.gradcheck.updates.textbook import Given, Slip

Array = NDArray[np.float64]
Factor = Callable[[Given], float]
Penalty = Callable[[Given], Array]
Shrink = Callable[[float], float]  # of the learning rate


class Stages:
    """Clipping, the L1 penalty and weight decay by the book, one by one.

    Attributes:
        limit: of the norm; infinite without clipping.
        has_both: whether both penalties go through the gradient.
    """

    def __init__(self, job: Job) -> None:
        e = job.experiment
        self.limit = np.inf if e.clip_norm is None else e.clip_norm
        self._l1 = e.l1
        self._decay = 0.0 if decouples(job) else e.weight_decay
        self.has_both = bool(self._l1 and self._decay)

    def factor(self, norm: float) -> float:
        """Return what the gradient is multiplied with."""
        return min(1.0, self.limit / norm) if norm else 1.0

    def l1(self, given: Given) -> Array:
        """Return the gradient of the L1 penalty."""
        found: Array = given.decaying * self._l1 * np.sign(given.weights)
        return found

    def decay(self, given: Given) -> Array:
        """Return that of weight decay, where it goes through the gradient."""
        found: Array = given.decaying * self._decay * given.weights
        return found

    def penalties(self, given: Given) -> Array:
        """Return the gradient of both."""
        return self.l1(given) + self.decay(given)

    def clipped(self, given: Given) -> Array:
        """Return the gradient that both are added to."""
        return given.gradient * self.factor(_norm(given.gradient))


def clip_slips(job: Job) -> Iterator[Slip]:
    """Yield what can be wrong with clipping by the norm, whoever takes the norm."""
    by = Stages(job)
    limit, one = by.limit, 1.0

    def scaled(factor: Factor) -> Callable[[Given], Array]:
        return lambda given: given.gradient * factor(given) + by.penalties(given)

    norms: list[tuple[str, str, Callable[[Given], float]]] = [
        ("norm-of-averages", "What stands in the place of running averages, or of what is frozen, "
         "counts in the norm.", lambda given: _norm(given.whole)),
        ("norm-of-penalties", "The penalties count in the norm.",
         lambda given: _norm(given.gradient + by.penalties(given))),
        ("norm-mean", "The norm is the root of the squares' mean, not of their sum.",
         lambda given: float(np.sqrt(np.mean(given.gradient**2)))),
        ("norm-largest", "The norm is the largest element.",
         lambda given: float(np.abs(given.gradient).max(initial=0))),
        ("norm-sizes", "The norm is the sum of the elements' sizes.",
         lambda given: float(np.abs(given.gradient).sum())),
        ("norm-unsquared", "The norm is the root of the elements' sizes: they are not squared.",
         lambda given: float(np.sqrt(np.abs(given.gradient).sum()))),
        ("norm-epsilon", "1e-6 is added to the norm.",
         lambda given: _norm(given.gradient) + 1e-6),
        ("norm-of-weights", "The weights' norm is taken, not the gradient's.",
         lambda given: _norm(given.weights)),
    ]  # fmt: skip
    for kind, sentence, norm in norms:
        yield Slip(kind, sentence, prepares=scaled(lambda g, n=norm: by.factor(n(g))))  # type: ignore[misc]
    factors: list[tuple[str, str, Factor]] = [
        ("clip-grows", "Gradients smaller than the limit are scaled up to it.",
         lambda given: limit / max(_norm(given.gradient), 1e-300)),
        ("clip-inverted", "Gradients smaller than the limit are scaled up to it, larger ones stay.",
         lambda given: max(one, limit / max(_norm(given.gradient), 1e-300))),
        ("clip-inverted", "The gradient is multiplied by its norm over the limit.",
         lambda given: _norm(given.gradient) / limit),
        ("clip-twice", "The gradient is clipped by its factor twice.",
         lambda given: by.factor(_norm(given.gradient)) ** 2),
        ("clip-to-1", "The gradient is clipped to a norm of 1, not to the limit.",
         lambda given: min(one, one / max(_norm(given.gradient), 1e-300))),
        ("clip-unlimited", "The gradient is divided by its norm; the limit is not in it.",
         lambda given: one / max(_norm(given.gradient), 1e-300)),
        ("clip-halved", "The factor of clipping is limit / (limit + norm).",
         lambda given: limit / (limit + _norm(given.gradient))),
        ("clip-root", "The root of the factor is taken.",
         lambda given: by.factor(_norm(given.gradient)) ** 0.5),
    ]  # fmt: skip
    for kind, sentence, factor in factors:
        yield Slip(kind, sentence, prepares=scaled(factor))
    values = "Every element is clipped by itself, to the limit, not the whole gradient."
    yield Slip("clipped-by-element", values, prepares=lambda given: (
        np.clip(given.gradient, -limit, limit) + by.penalties(given)
    ))  # fmt: skip
    if job.experiment.l1 or job.experiment.weight_decay:
        yield from _order(by)


def _order(by: Stages) -> Iterator[Slip]:
    """Yield what comes of clipping and penalties in another order."""
    after = "The gradient is clipped after the penalties were added, and by their norm too."

    def late(given: Given) -> Array:
        g = given.gradient + by.penalties(given)
        return g * by.factor(_norm(g))

    yield Slip("clip-order", after, prepares=late)
    ways: list[tuple[str, Penalty]] = [("weight decay", by.decay), ("the L1 penalty", by.l1)]
    if by.has_both:
        ways.insert(0, ("the penalties", by.penalties))
    for what, penalty in ways:

        def scaling(given: Given, own: Penalty = penalty) -> Array:
            factor = by.factor(_norm(given.gradient))
            return by.clipped(given) + by.penalties(given) + (factor - 1) * own(given)

        sentence = f"The factor of clipping scales {what} as well."
        yield Slip("clip-scales-decay", sentence, prepares=scaling)


def penalty_slips(job: Job) -> Iterator[Slip]:
    """Yield what can be wrong with weight decay and the L1 penalty, but for their size."""
    e, by = job.experiment, Stages(job)
    through = 0.0 if decouples(job) else e.weight_decay
    others: list[tuple[str, str, Penalty]] = []
    if e.l1:
        others += [
            ("l1-at-zero", "The L1 penalty moves weights that are exactly 0 down: sign(0) is 1.",
             lambda given: given.decaying * e.l1 * np.where(given.weights < 0, -1, 1)
             + by.decay(given)),
            ("l1-at-zero", "The L1 penalty moves weights that are exactly 0 up: sign(0) is -1.",
             lambda given: given.decaying * e.l1 * np.where(given.weights > 0, 1, -1)
             + by.decay(given)),
            ("l1-as-l2", "The L1 penalty's gradient is l1 w, not l1 sign(w).",
             lambda given: given.decaying * e.l1 * given.weights + by.decay(given)),
            ("l1-of-size", "The L1 penalty's gradient is l1 |w|, not l1 sign(w).",
             lambda given: given.decaying * e.l1 * np.abs(given.weights) + by.decay(given)),
            ("l1-constant", "The L1 penalty's gradient is l1 for every weight, whatever its sign.",
             lambda given: given.decaying * e.l1 + by.decay(given)),
            ("l1-of-gradient", "The L1 penalty goes by the gradient's sign, not by the weight's.",
             lambda given: given.decaying * e.l1 * np.sign(given.gradient) + by.decay(given)),
        ]  # fmt: skip
    if through:
        others += [
            ("l2-as-l1", "Weight decay is λ sign(w), not λ w.",
             lambda given: given.decaying * through * np.sign(given.weights) + by.l1(given)),
            ("l2-of-size", "Weight decay is λ |w|, not λ w.",
             lambda given: given.decaying * through * np.abs(given.weights) + by.l1(given)),
            ("l2-squared", "Weight decay is λ w², not λ w.",
             lambda given: given.decaying * through * given.weights**2 + by.l1(given)),
            ("l2-of-gradient", "Weight decay is λ g, not λ w.",
             lambda given: given.decaying * through * given.gradient + by.l1(given)),
        ]  # fmt: skip
    if e.l1 and e.weight_decay:
        others.append(("l1-missing", "The L1 penalty is missing.", by.decay))
    if e.l1 and through:
        others.append(("weight-decay-missing", "Weight decay is missing.", by.l1))
        swapped = "The coefficients of L1 penalty and weight decay are swapped."
        others.append(("penalties-swapped", swapped, lambda given: (
            given.decaying * (through * np.sign(given.weights) + e.l1 * given.weights)
        )))  # fmt: skip
    for kind, sentence, penalty in others:

        def prepares(given: Given, own: Penalty = penalty) -> Array:
            return by.clipped(given) + own(given)

        yield Slip(kind, sentence, prepares=prepares)
    yield from _bypassing(job, by)


def _bypassing(job: Job, by: Stages) -> Iterator[Slip]:
    """Yield what can be wrong with penalties that do not go through the gradient."""
    e = job.experiment
    decay, decoupled = e.weight_decay, decouples(job)
    base = e.lr
    if decoupled and decay:
        shrinks: list[tuple[str, str, Shrink]] = [
            ("decay-without-rate", "Weight decay is not multiplied by the learning rate.",
             lambda _: decay),
            ("decay-without-schedule",
             "Weight decay is multiplied by the base learning rate, not by that of the step.",
             lambda _: base * decay),
            ("decay-rate-twice", "Weight decay is multiplied by the learning rate twice.",
             lambda lr: lr * lr * decay),
            ("decay-sign", "Weight decay lets the weights grow: it has the wrong sign.",
             lambda lr: -lr * decay),
        ]  # fmt: skip
        for kind, sentence, shrink in shrinks:

            def descend(given: Given, step: Array, lr: float, own: Shrink = shrink) -> Array:
                found: Array = given.weights * (1 - given.decaying * own(lr)) - lr * step
                return found

            yield Slip(kind, sentence, descends=descend)
        after = "Weight decay is applied to the updated weights, not to those before the step."

        def late(given: Given, step: Array, lr: float) -> Array:
            found: Array = (given.weights - lr * step) * (1 - given.decaying * lr * decay)
            return found

        yield Slip("decay-late", after, descends=late)
    if e.l1 and e.optimizer != "sgd":
        past = "The L1 penalty bypasses the gradient."

        def bypassing(given: Given, step: Array, lr: float) -> Array:
            shrunk = given.weights * (1 - given.decaying * lr * decay * decoupled)
            sign = given.decaying * np.sign(given.weights)
            return shrunk - lr * (step + e.l1 * sign)

        yield Slip(
            "l1-coupling",
            past,
            prepares=lambda given: by.clipped(given) + by.decay(given),
            descends=bypassing,
        )


def _norm(g: Array) -> float:
    return float(np.sqrt(np.sum(g * g)))
