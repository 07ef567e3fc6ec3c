"""Update rules with one thing wrong: each published formula with a term left out or exchanged.

Two families are written out with all their constants open, so that a mistake is one other constant:
those with moments (AdaGrad, RMSprop, Adam and AdamW) and those with a velocity.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.updates.textbook import Slip

Array = NDArray[Any]
State = dict[str, Array]
Changes = dict[str, Any]


@dataclass(frozen=True)
class Moments:
    """``m ← kept m + taken g``; ``v ← kept2 v + taken2 g²``; ``m̂ / (√v̂ + ε)``.

    Attributes:
        kept: of the first moment; None for rules without one.
        taken: of the gradient.
        kept2: of the second moment.
        taken2: of the gradient's square.
        corrects: β of the first moment's bias correction, or None for no correction.
        corrects2: β of the second's.
        epsilon: ε.
        square: what the second moment is made of, of gradient and first moment.
        above: the numerator, of the corrected first moment, gradient, its moment before the step.
        below: the denominator, of the second moment, its bias correction, ε and t.
        ahead: steps by which t is in the first moment's bias correction.
        ahead2: the same in the second's.
        late: whether the step uses the second moment as it was before.
        highest: whether the step uses the highest second moment there was.
        rises: whether the second moment itself never falls.
    """

    kept: float | None
    taken: float
    kept2: float
    taken2: float
    corrects: float | None
    corrects2: float | None
    epsilon: float
    square: Callable[[Array, Array], Array] = lambda g, _: g * g
    above: Callable[[Array, Array, Array], Array] = lambda m, _, __: m
    below: Callable[[Array, float, float, int], Array] = lambda v, c, e, _: np.sqrt(v / c) + e
    ahead: int = 0
    ahead2: int = 0
    late: bool = False
    highest: bool = False
    rises: bool = False

    def __call__(self, state: State, g: Array, t: int, lr: float) -> Array:  # noqa: ARG002
        """Update the state, and return what the learning rate multiplies."""
        m = old_m = g
        if self.kept is not None:
            old_m = state["mean"]
            state["mean"] = m = self.kept * old_m + self.taken * g
        old = state["squares"]
        v = self.kept2 * old + self.taken2 * self.square(g, m)
        state["squares"] = v = np.maximum(old, v) if self.rises else v
        if self.highest:
            state["highest"] = v = np.maximum(state.get("highest", v), v)
        correction = 1.0 if self.corrects is None else 1 - self.corrects ** max(1, t + self.ahead)
        correction2 = (
            1.0 if self.corrects2 is None else 1 - self.corrects2 ** max(1, t + self.ahead2)
        )
        below = self.below(old if self.late else v, correction2, self.epsilon, t)
        return self.above(m / correction, g, old_m) / below


@dataclass(frozen=True)
class Velocity:
    """``v ← kept v + taken g``; the step goes along ``of_g g + of_v v + of_old v_old``."""

    kept: float
    taken: float = 1.0
    of_g: float = 0.0
    of_v: float = 1.0
    of_old: float = 0.0

    def __call__(self, state: State, g: Array, t: int, lr: float) -> Array:  # noqa: ARG002
        """Update the state, and return what the learning rate multiplies."""
        old = state["velocity"]
        state["velocity"] = v = self.kept * old + self.taken * g
        return self.of_g * g + self.of_v * v + self.of_old * old


def rule_slips(job: Job, workers: int) -> Iterator[Slip]:
    """Yield what can be wrong in the job's rule."""
    name = job.experiment.optimizer
    if name in ("momentum", "nesterov"):
        yield from _velocities(job)
    if name in ("adam", "adamw"):
        yield from _adams(job)
        yield from _counts(job, workers)
    if name == "lion":
        yield from _lions(job)
    if name in ("rmsprop", "adagrad"):
        yield from _squares(job)
    if name in ("adam", "adamw", "rmsprop", "adagrad"):
        yield from _below(job)


def book_moments(job: Job) -> Moments:
    """Return AdaGrad, RMSprop or Adam as published."""
    e = job.experiment
    epsilon = e.coefficient("epsilon")
    if e.optimizer == "adagrad":
        return Moments(None, 1.0, 1.0, 1.0, None, None, epsilon)
    if e.optimizer == "rmsprop":
        rho = e.coefficient("decay")
        return Moments(None, 1.0, rho, 1 - rho, None, None, epsilon)
    a, b = e.coefficient("beta1"), e.coefficient("beta2")
    return Moments(a, 1 - a, b, 1 - b, a, b, epsilon)


def book_velocity(job: Job) -> Velocity:
    """Return momentum or Nesterov's as published."""
    mu = job.experiment.coefficient("momentum")
    if job.experiment.optimizer == "nesterov":
        return Velocity(mu, of_g=1.0, of_v=mu)
    return Velocity(mu)


def _lions(job: Job) -> Iterator[Slip]:
    a, b = job.experiment.coefficient("beta1"), job.experiment.coefficient("beta2")

    def lion(
        signed: tuple[float, float], kept: float, direction: Callable[[Array], Array] = np.sign
    ) -> Callable[[State, Array, int, float], Array]:
        def rule(state: State, g: Array, t: int, lr: float) -> Array:  # noqa: ARG001
            found = direction(signed[0] * state["mean"] + signed[1] * g)
            state["mean"] = kept * state["mean"] + (1 - kept) * g
            return found

        return rule

    right = (a, 1 - a)
    yield Slip("betas-swapped", "β₁ and β₂ are swapped.", rule=lion((b, 1 - b), a))
    yield Slip("sign", "The sign is missing.", rule=lion(right, b, lambda c: c))
    what = "The step is the sign of the gradient alone."
    yield Slip("sign", what, rule=lion((0.0, 1.0), b))
    what = "The step is the sign of the mean of the step before."
    yield Slip("sign", what, rule=lion((1.0, 0.0), b))
    what = "The step is the sign of the new mean: β₂ stands where β₁ should."
    yield Slip("sign", what, rule=lion((b, 1 - b), b))
    what = "The mean is kept by β₁, not by β₂."
    yield Slip("kept", what, rule=lion(right, a))


def _velocities(job: Job) -> Iterator[Slip]:
    book, mu = book_velocity(job), job.experiment.coefficient("momentum")
    plain = job.experiment.optimizer == "momentum"
    if plain:
        what = "What is computed is Nesterov's momentum, not the plain one."
        yield Slip("momentum-nesterov", what, rule=Velocity(mu, of_g=1.0, of_v=mu))
    else:
        what = "Plain momentum is computed, not Nesterov's."
        yield Slip("nesterov-plain", what, rule=Velocity(mu))
    found: list[tuple[str, str, Changes]] = [
        ("dampened", "The gradient enters the velocity times 1 - μ: it is dampened.",
         {"taken": 1 - mu}),
        ("dampened", "The gradient enters the velocity times μ: v ← μ (v + g).", {"taken": mu}),
        ("kept", "The velocity keeps all of itself: μ is missing in μ v.", {"kept": 1.0}),
        ("kept", "The velocity keeps 1 - μ of itself, not μ.", {"kept": 1 - mu}),
        ("mixed", "The velocity is a running mean with μ and 1 - μ swapped.",
         {"kept": 1 - mu, "taken": mu}),
        ("late", "The step goes along the velocity of the step before.",
         {"of_v": 0.0, "of_old": book.of_v}),
        ("unused", "The step goes along the gradient alone: the velocity is not used.",
         {"of_g": 1.0, "of_v": 0.0}),
        ("twice", "The step goes along v + g: the gradient counts once more.",
         {"of_g": 1.0, "of_v": 1.0}),
        ("no-gradient", "The step goes along μ v: the gradient itself is missing.",
         {"of_g": 0.0, "of_v": mu}),
        ("lookahead", "The step goes along v + μ v: it looks ahead of the velocity, not of the "
         "gradient.", {"of_g": 0.0, "of_v": 1 + mu}),
        ("lookahead", "The step goes along g - μ v: the look-ahead has the wrong sign.",
         {"of_g": 1.0, "of_v": -mu}),
        ("lookahead", "The step goes along g + μ² v: μ counts once too often.",
         {"of_g": 1.0, "of_v": mu * mu}),
    ]  # fmt: skip
    for kind, sentence, changes in found:
        changed = replace(book, **changes)
        # with Nesterov's the velocity before the step makes plain momentum
        if changed != book and (plain or kind != "late"):
            yield Slip(f"velocity-{kind}", sentence, rule=changed)
    yield _within(book)


def _within(book: Velocity) -> Slip:
    """Return momentum as the other convention has it: ``v ← μ v + lr g``; ``w ← w - v``."""

    def rule(state: State, g: Array, t: int, lr: float) -> Array:
        return book(state, lr * g, t, lr) / lr if lr else np.zeros_like(g)

    what = (
        "The learning rate stands in the velocity: v ← μ v + lr g, which is something else where "
        "the rate changes."
    )
    return Slip("velocity-rate", what, rule=rule)


def _adams(job: Job) -> Iterator[Slip]:
    book, a, b = (
        book_moments(job),
        job.experiment.coefficient("beta1"),
        job.experiment.coefficient("beta2"),
    )
    wrong: list[tuple[str, str, list[Changes]]] = [
        ("betas", "β₁ is used for the second moment, where β₂ belongs.",
         [{"kept2": a}, {"kept2": a, "taken2": 1 - a}, {"taken2": 1 - a},
          {"kept2": a, "taken2": 1 - a, "corrects2": a}, {"kept2": a, "corrects2": a}]),
        ("betas", "β₂ is used for the first moment, where β₁ belongs.",
         [{"kept": b}, {"kept": b, "taken": 1 - b}, {"taken": 1 - b},
          {"kept": b, "taken": 1 - b, "corrects": b}, {"kept": b, "corrects": b}]),
        ("betas", "β₁ and β₂ are swapped.",
         [{"kept": b, "taken": 1 - b, "kept2": a, "taken2": 1 - a, "corrects": x, "corrects2": y}
          for x, y in ((b, a), (a, b))] + [{"kept": b, "kept2": a}]),
        ("correction", "The second moment is not corrected for its bias.", [{"corrects2": None}]),
        ("correction", "The first moment is not corrected for its bias.", [{"corrects": None}]),
        ("correction", "Neither moment is corrected for its bias.",
         [{"corrects": None, "corrects2": None}]),
        ("correction", "The second moment's bias is corrected with β₁.", [{"corrects2": a}]),
        ("correction", "The first moment's bias is corrected with β₂.", [{"corrects": b}]),
        ("correction", "The bias corrections are swapped.", [{"corrects": b, "corrects2": a}]),
        ("correction", "The bias correction of the second moment stands outside of the root.",
         [{"below": lambda v, c, e, _: np.sqrt(v) / c + e},
          {"below": lambda v, c, e, _: np.sqrt(v * (1 - b)) / c + e}]),
        ("step", "The first moment's bias correction is a step ahead.", [{"ahead": 1}]),
        ("step", "The first moment's bias correction is a step behind.", [{"ahead": -1}]),
        ("step", "The second moment's bias correction is a step ahead.", [{"ahead2": 1}]),
        ("step", "The second moment's bias correction is a step behind.", [{"ahead2": -1}]),
        ("mixed", "The first moment keeps 1 - β₁ and takes β₁: they are swapped.",
         [{"kept": 1 - a, "taken": a}]),
        ("mixed", "The second moment keeps 1 - β₂ and takes β₂: they are swapped.",
         [{"kept2": 1 - b, "taken2": b}]),
        ("scale", "The gradient enters the first moment without 1 - β₁.", [{"taken": 1.0}]),
        ("scale", "The square enters the second moment without 1 - β₂.", [{"taken2": 1.0}]),
        ("kept", "The first moment keeps all of itself: β₁ is missing.", [{"kept": 1.0}]),
        ("kept", "The second moment keeps all of itself: β₂ is missing.", [{"kept2": 1.0}]),
        ("unused", "The step goes along the gradient, not along the first moment.",
         [{"above": lambda _, g, __: g}]),
        ("unused", "The first moment forgets: it is the gradient alone.",
         [{"kept": 0.0, "taken": 1.0, "corrects": None}, {"kept": 0.0}]),
        ("late", "The step goes along the first moment of the step before.",
         [{"above": lambda m, _, old: old + 0 * m}]),
        ("square-of", "The second moment is made of the first one's square, not the gradient's.",
         [{"square": lambda _, m: m * m}]),
        ("square-of", "The second moment is made of (g - m)², not of g².",
         [{"square": lambda g, m: (g - m) ** 2}]),
        ("lookahead", "The first moment looks ahead, as Nadam's.",
         [{"above": lambda m, g, _: a * m + (1 - a) * g}]),
        ("maximum", "The second moment never falls, as AMSGrad's.",
         [{"highest": True}, {"rises": True}]),
    ]  # fmt: skip
    yield from _moments("adam", book, wrong)


def _counts(job: Job, workers: int) -> Iterator[Slip]:
    """Yield what t of the bias correction may be instead of the step's number from 1."""
    period, e = job.steps_per_epoch, job.experiment
    counts: list[tuple[str, Callable[[int], int]]] = [
        ("begins again with every epoch", lambda step: step % period + 1),
        ("counts epochs, not steps", lambda step: step // period + 1),
        ("counts every step twice", lambda step: 2 * (step + 1)),
        (f"counts every step {workers} times, once for each worker",
         lambda step: workers * (step + 1)),
        ("stays at 1", lambda _: 1),
        ("counts from the end of the warm-up", lambda step: max(1, step + 1 - e.warmup)),
        ("counts rows, not steps", lambda step: (step + 1) * job.batch_size),
        ("is so large that nothing is corrected", lambda _: 10**9),
    ]  # fmt: skip
    for what, count in counts:
        yield Slip("adam-step", f"The bias correction's step t {what}.", counts=count)


def _squares(job: Job) -> Iterator[Slip]:
    book = book_moments(job)
    rho = job.experiment.coefficient("decay")
    wrong: list[tuple[str, str, list[Changes]]]
    if job.experiment.optimizer == "adagrad":
        wrong = [
            ("mean", "It divides by the root of the squares' mean, not of their sum.",
             [{"below": lambda h, _, e, t: np.sqrt(h / t) + e}]),
            ("kept", "Squares are forgotten: it divides by the gradient's own size.",
             [{"kept2": 0.0}]),
            ("kept", "A running mean of squares is kept, as RMSprop's, not their sum.",
             [{"kept2": x, "taken2": 1 - x} for x in (0.9, 0.99, 0.999)]),
        ]  # fmt: skip
    else:
        wrong = [
            ("mixed", "The mean of squares keeps 1 - decay and takes decay: they are swapped.",
             [{"kept2": 1 - rho, "taken2": rho}]),
            ("scale", "The square enters the mean without 1 - decay.", [{"taken2": 1.0}]),
            ("kept", "The mean of squares keeps all of itself: its decay is missing.",
             [{"kept2": 1.0}, {"kept2": 1.0, "taken2": 1.0}]),
            ("kept", "Squares are forgotten: it divides by the gradient's own size.",
             [{"kept2": 0.0}, {"kept2": 0.0, "taken2": 1.0}]),
            ("correction", "The mean of squares is corrected for its bias, as Adam's.",
             [{"corrects2": rho}]),
        ]  # fmt: skip
    yield from _moments(str(job.experiment.optimizer), book, wrong)


def _below(job: Job) -> Iterator[Slip]:
    """Yield what can be wrong with the denominator, for all rules that divide."""
    book = book_moments(job)
    unscaled = math.sqrt(book.taken2)  # the state is kept over 1 - ρ: its root is that much larger
    wrong: list[tuple[str, str, list[Changes]]] = [
        ("no-root", "It divides by the squares themselves: the root is missing.",
         [{"below": lambda v, c, e, _: v / c + e},
          {"below": lambda v, c, e, _: (v / book.taken2 + e) * (unscaled / math.sqrt(c))},
          {"below": lambda v, c, e, _: v / book.taken2 * (unscaled / math.sqrt(c)) + e}]),
        ("not-divided", "The gradient is not divided by the root of its squares.",
         [{"below": lambda v, *_: np.ones_like(v)}]),
        ("root-of-root", "The root is taken twice.",
         [{"below": lambda v, c, e, _: np.sqrt(np.sqrt(v / c)) + e}]),
        ("not-squared", "The gradient's size is kept, not its square.",
         [{"square": lambda g, _: np.abs(g)}]),
        ("not-squared", "The gradient is kept, not its square.", [{"square": lambda g, _: g}]),
        ("late-squares", "It divides by the squares as they were before the step.",
         [{"late": True}]),
        ("epsilon-missing", "ε is missing.", [{"epsilon": 0.0}]),
        ("epsilon-place", "ε is added before the bias correction.",
         [{"below": lambda v, c, e, _: (np.sqrt(v) + e) / math.sqrt(c)}]),
        ("epsilon-place", "ε is added to the root of the state as it is kept, without the factor "
         "that goes with it.",
         [{"below": lambda v, c, e, _: np.sqrt(v / c) + e * unscaled / math.sqrt(c)},
          {"below": lambda v, c, e, _: np.sqrt(v / c) + e * unscaled},
          {"below": lambda v, c, e, _: np.sqrt(v / c) + e / unscaled}]),
        ("epsilon-place", "The root's square is what ε is added to: ε stands inside the root.",
         [{"below": lambda v, c, e, _: np.sqrt((v + e) / c)},
          {"below": lambda v, c, e, _: np.sqrt((v + e * unscaled) / c)},
          {"below": lambda v, c, e, _: np.sqrt((v / book.taken2 + e) * book.taken2 / c)}]),
        ("epsilon-place", "ε is the smallest that the root may be, and not added.",
         [{"below": lambda v, c, e, _: np.maximum(np.sqrt(v / c), e)}]),
        ("epsilon-place", "ε² is added, not ε.", [{"epsilon": book.epsilon**2}]),
        ("epsilon-place", "√ε is added, not ε.", [{"epsilon": math.sqrt(book.epsilon)}]),
        ("epsilon-sign", "ε is taken off the root, not added.", [{"epsilon": -book.epsilon}]),
        ("epsilon-twice", "ε is added twice.",
         [{"epsilon": 2 * book.epsilon},
          {"below": lambda v, c, e, _: np.sqrt(v / c + e) + e}]),
    ]  # fmt: skip
    yield from _moments("", book, wrong)


def _moments(
    name: str, book: Moments, wrong: list[tuple[str, str, list[Changes]]]
) -> Iterator[Slip]:
    for kind, sentence, variants in wrong:
        for changes in variants:
            changed = replace(book, **changes)
            if changed != book:
                yield Slip(f"{name}-{kind}".lstrip("-"), sentence, rule=changed)
