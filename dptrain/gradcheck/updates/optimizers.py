"""The update rules as they were published, in one form whose constants and pieces are open.

For another optimizer write its rule in `BOOK`; what can go wrong with its moments and its
denominator follows from that. Nothing is shared with `dptrain.optim`: the state is kept in the
published scale, and every number carries a bound of what rounding can do to it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.reference.bounded import UNITS, Bounded

Array = NDArray[Any]
Row = tuple[str, str, dict[str, Any]]  # a kind, a sentence, and what is otherwise
DOUBLE = UNITS["float64"]
# Decays of a running mean that are usual.
USUAL = (0.9, 0.99, 0.999)


class Numbers:
    """The arithmetic of a dtype, with bounds of rounding or, ten times as fast, without.

    Attributes:
        unit: its unit roundoff.
        tiny: its smallest number, which is what underflow can take away.
    """

    def __init__(self, dtype: np.dtype[Any], *, bounds: bool = True) -> None:
        self.unit = UNITS[dtype.name]
        self.tiny = float(np.finfo(dtype).smallest_subnormal)
        self._bounds = bounds

    def exact(self, value: Any) -> Bounded:
        """Return numbers that have no error."""
        found = np.asarray(value, float)
        return Bounded(found, np.zeros(found.shape) if self._bounds else None, self.unit)

    def constant(self, value: Bounded | float) -> Bounded:
        """Return a number of double precision, rounded to the dtype."""
        if not isinstance(value, Bounded):
            value = Bounded(np.array(float(value)), np.zeros(()), DOUBLE)
        if not self._bounds or value.error is None:
            return Bounded(value.value, None, self.unit)
        error = value.error + self.unit * (np.abs(value.value) + value.error)
        return Bounded(value.value, error, self.unit)

    def floored(self, found: Bounded) -> Bounded:
        """Return the same with what underflow can add to the error."""
        return found.like(found.value, None if found.error is None else found.error + self.tiny)

    def times(self, factor: float, found: Bounded) -> Bounded:
        """Return a multiple."""
        return found if factor == 1 else self.constant(factor) * found

    def mixed(self, kept: float, old: Bounded, taken: float, new: Bounded) -> Bounded:
        """Return ``kept old + taken new``."""
        return self.floored(self.times(kept, old) + self.times(taken, new))

    def correction(self, beta: float | None, t: int) -> Bounded:
        """Return ``1 - βᵗ``, or 1 where nothing is corrected."""
        power = 0.0 if beta is None else beta**t
        drawn = 2 * power if t > 1 else 0.0
        error = np.array(DOUBLE * (drawn + abs(1 - power)))
        return self.constant(Bounded(np.array(1 - power), error, DOUBLE))


@dataclass(frozen=True)
class Rule:
    """From a gradient to what the learning rate multiplies.

    ``m ← kept m + taken g``; ``v ← kept2 v + taken2 g²``; the step goes along
    ``of_m m̂ + of_g g + of_old m_old``, or along its sign, over ``√v̂ + ε``.

    Attributes:
        moment: what ``m`` is called in the optimizer's state; empty without any.
        kept: of the moment.
        taken: of the gradient.
        of_m: part of the new moment in the step.
        of_g: part of the gradient.
        of_old: part of the moment before the step.
        signed: whether only the sign counts.
        squares: whether there is a second moment, and the step is divided.
        kept2: of the second moment.
        taken2: of the square.
        corrects: β of the moment's bias correction, None without.
        corrects2: β of the second's.
        epsilon: ε.
        decoupled: whether weight decay goes past the rule.
        letters: what the constants are called that the two moments keep.
        square: what the second moment is made of, of gradient and moment; by default g².
        below: the denominator, of v, its bias correction, ε and t; by default √v̂ + ε.
        ahead: steps by which t is ahead in the two bias corrections.
        late: whether the second moment before the step divides.
        highest: whether the highest second moment there was divides.
        rate_inside: whether the learning rate stands in the moment: ``m ← kept m + lr g``.
    """

    moment: str = ""
    kept: float = 0.0
    taken: float = 1.0
    of_m: float = 0.0
    of_g: float = 0.0
    of_old: float = 0.0
    signed: bool = False
    squares: bool = False
    kept2: float = 1.0
    taken2: float = 1.0
    corrects: float | None = None
    corrects2: float | None = None
    epsilon: float = 0.0
    decoupled: bool = False
    letters: tuple[str, str] = ("", "")
    square: Callable[[Array, Array], Array] | None = None
    below: Callable[[Array, float, float, int], Array] | None = None
    ahead: tuple[int, int] = (0, 0)
    late: bool = False
    highest: bool = False
    rate_inside: bool = False

    @property
    def scales(self) -> dict[str, float]:
        """By name, what makes the published state of the one that a run keeps.

        A run takes a gradient into its state as it is, and moves the factor elsewhere.
        """
        moment = {self.moment: self.taken} if self.moment else {}
        return moment | ({"squares": self.taken2} if self.squares else {})

    def direction(
        self, state: dict[str, Bounded], g: Bounded, t: int, lr: float, n: Numbers
    ) -> Bounded:
        """Update the state, and return what the learning rate multiplies.

        Args:
            state: by name, in the published scale.
            g: the gradient.
            t: the step, counted from 1.
            lr: its learning rate.
            n: the arithmetic.
        """
        inside = lr if self.rate_inside and lr else 1.0
        m = old = g
        if self.moment:
            old = state[self.moment]
            m = n.mixed(self.kept, old, self.taken, n.times(inside, g))
            state[self.moment] = m
        c = n.correction(self.corrects, max(1, t + self.ahead[0]))
        corrected = m if self.corrects is None else m / c
        parts = ((self.of_m / inside, corrected), (self.of_g, g), (self.of_old / inside, old))
        along, *others = [n.times(factor, each) for factor, each in parts if factor]
        for each in others:
            along = along + each
        if self.signed:
            along = _sign(n.floored(along))
        return along / self._denominator(state, g, m, t, n) if self.squares else along

    def _denominator(
        self, state: dict[str, Bounded], g: Bounded, m: Bounded, t: int, n: Numbers
    ) -> Bounded:
        square = g * g if self.square is None else n.exact(self.square(g.value, m.value))
        old = state["squares"]
        v = n.mixed(self.kept2, old, self.taken2, square)
        state["squares"] = v
        if self.highest:
            v = n.exact(np.maximum(state.get("highest", v).value, v.value))
            state["highest"] = v
        v = old if self.late else v
        c = n.correction(self.corrects2, max(1, t + self.ahead[1]))
        if self.below is not None:
            return n.exact(self.below(v.value, float(c.value), self.epsilon, t))
        return _root(v / c if self.corrects2 is not None else v) + n.constant(self.epsilon)


def _sign(c: Bounded) -> Bounded:
    """Return the sign; where rounding could turn it, it may be any."""
    if c.error is None:
        return c.like(np.sign(c.value), None)
    sure = (np.abs(c.value) > c.error) | (c.error == 0)
    return c.like(np.sign(c.value), np.where(sure, 0.0, 2.0))


def _root(h: Bounded) -> Bounded:
    """Return the square root; what it is of may be 0 within its error."""
    value = np.sqrt(np.maximum(h.value, 0))
    if h.error is None:
        return h.like(value, None)
    with np.errstate(invalid="ignore"):
        low, high = np.sqrt(np.maximum(h.value - h.error, 0)), np.sqrt(h.value + h.error)
    return h.like(value, np.maximum(value - low, high - value) + 2 * h.unit * value)


def _momentum(e: Settled, **more: float) -> Rule:
    mu = e.coefficient("momentum")
    return Rule("velocity", mu, 1.0, **{"of_m": 1.0} | more, letters=("μ", ""))


def _squares(e: Settled, kept: float, taken: float) -> Rule:
    epsilon, letters = e.coefficient("epsilon"), ("", "decay")
    return Rule(
        of_g=1.0, squares=True, kept2=kept, taken2=taken, epsilon=epsilon, letters=letters
    )


def _adam(e: Settled, *, decoupled: bool) -> Rule:
    a, b = e.coefficient("beta1"), e.coefficient("beta2")
    return Rule(
        "mean", a, 1 - a, of_m=1.0, squares=True, kept2=b, taken2=1 - b, corrects=a, corrects2=b,
        epsilon=e.coefficient("epsilon"), decoupled=decoupled, letters=("β₁", "β₂"),
    )  # fmt: skip


def _lion(e: Settled) -> Rule:
    a, b = e.coefficient("beta1"), e.coefficient("beta2")
    return Rule(
        "mean", b, 1 - b, of_old=a, of_g=1 - a, signed=True, decoupled=True, letters=("β₂", "")
    )


BOOK: dict[str, Callable[[Settled], Rule]] = {
    "sgd": lambda _: Rule(of_g=1.0),
    "momentum": _momentum,
    "nesterov": lambda e: _momentum(e, of_g=1.0, of_m=e.coefficient("momentum")),
    "adagrad": lambda e: _squares(e, 1.0, 1.0),
    "rmsprop": lambda e: _squares(e, e.coefficient("decay"), 1 - e.coefficient("decay")),
    "adam": lambda e: _adam(e, decoupled=False),
    "adamw": lambda e: _adam(e, decoupled=True),
    "lion": _lion,
}


def rule_of(job: Job) -> Rule:
    """Return the rule that a job's optimizer should be."""
    return BOOK[job.experiment.optimizer](job.experiment)


def wrong_rules(rule: Rule) -> Iterator[tuple[str, str, Rule]]:
    """Yield what can be wrong in a rule, with kind and sentence."""
    rows: list[Row] = []
    if rule.moment:
        rows += _moment(rule)
    if rule.moment == "velocity":
        rows += _velocity(rule)
    if rule.signed:
        rows += _signed(rule)
    if rule.squares:
        rows += _squares_and_below(rule)
    if rule.moment and rule.squares:
        rows += _both_moments(rule)
    for kind, sentence, changes in rows:
        changed = replace(rule, **changes)
        if changed != rule:
            yield kind, sentence, changed


def _moment(rule: Rule) -> Iterator[Row]:
    """Yield what can be wrong with velocity, first moment or mean, whatever it is called."""
    k, x = rule.kept, rule.letters[0]
    what = "velocity" if rule.moment == "velocity" else "first moment" if rule.squares else "mean"
    late = {"of_m": 0.0, "of_old": rule.of_m}
    yield "momentum-sign", "The momentum has the wrong sign.", {"kept": -k, "of_old": -rule.of_old}
    yield f"{what}-kept", f"The {what} keeps all of itself: {x} is missing.", {"kept": 1.0}
    yield f"{what}-kept", f"The {what} keeps 1 - {x} of itself, not {x}.", {"kept": 1 - k}
    swapped = f"The {what} keeps 1 - {x} and takes {x}: they are swapped."
    yield f"{what}-mixed", swapped, {"kept": 1 - k, "taken": k}
    enters = f"The gradient enters the {what}"
    if rule.taken == 1:
        yield "dampened", f"{enters} times 1 - {x}: it is dampened.", {"taken": 1 - k}
        yield "dampened", f"{enters} times {x}: v ← {x} (v + g).", {"taken": k}
    else:
        yield f"{what}-scale", f"{enters} without 1 - {x}.", {"taken": 1.0}
    if rule.of_m == 1:
        yield f"{what}-late", f"The step goes along the {what} of the step before.", late
        alone = f"The step goes along the gradient alone: the {what} is not used."
        yield f"{what}-unused", alone, {"of_m": 0.0, "of_g": 1.0}


def _velocity(rule: Rule) -> list[Row]:
    mu = rule.kept
    plain = not rule.of_g
    other = (
        ("momentum-nesterov", "What is computed is Nesterov's momentum, not the plain one.")
        if plain
        else ("nesterov-plain", "Plain momentum is computed, not Nesterov's.")
    )
    return [
        (*other, {"of_g": float(plain), "of_m": mu if plain else 1.0}),
        ("velocity-twice", "The step goes along v + g: the gradient counts once more.",
         {"of_g": 1.0, "of_m": 1.0}),
        ("velocity-no-gradient", "The step goes along μ v: the gradient itself is missing.",
         {"of_g": 0.0, "of_m": mu}),
        ("velocity-unused", "The step goes along the gradient alone: the velocity is not used.",
         {"of_g": 1.0, "of_m": 0.0}),
        ("velocity-lookahead", "The step goes along v + μ v: it looks ahead of the velocity, not of "
         "the gradient.", {"of_g": 0.0, "of_m": 1 + mu}),
        ("velocity-lookahead", "The step goes along g - μ v: the look-ahead has the wrong sign.",
         {"of_g": 1.0, "of_m": -mu}),
        ("velocity-lookahead", "The step goes along g + μ² v: μ counts once too often.",
         {"of_g": 1.0, "of_m": mu * mu}),
        ("velocity-rate", "The learning rate stands in the velocity: v ← μ v + lr g, which is "
         "something else where the rate changes.", {"rate_inside": True}),
    ]  # fmt: skip


def _signed(rule: Rule) -> list[Row]:
    a, b = rule.of_old, rule.kept
    step = "The step is the sign of the"
    return [
        ("betas-swapped", "β₁ and β₂ are swapped.",
         {"of_old": b, "of_g": 1 - b, "kept": a, "taken": 1 - a}),
        ("sign", "The sign is missing.", {"signed": False}),
        ("sign", f"{step} gradient alone.", {"of_old": 0.0, "of_g": 1.0}),
        ("sign", f"{step} mean of the step before.", {"of_old": 1.0, "of_g": 0.0}),
        ("sign", f"{step} new mean: β₂ stands where β₁ should.", {"of_old": b, "of_g": 1 - b}),
        ("kept", "The mean is kept by β₁, not by β₂.", {"kept": a, "taken": 1 - a}),
    ]  # fmt: skip


def _squares_and_below(rule: Rule) -> list[Row]:
    """Return what can be wrong with squares and denominator, for all rules that divide."""
    k, x, e = rule.kept2, rule.letters[1], rule.epsilon
    what = "second moment" if rule.moment else "mean of squares"
    if k == 1:
        mixed: list[Row] = [
            ("squares-mean", "It divides by the root of the squares' mean, not of their sum.",
             {"below": lambda h, _, e, t: np.sqrt(h / t) + e}),
            *(("squares-kept", "A running mean of squares is kept, not their sum.",
               {"kept2": usual, "taken2": 1 - usual}) for usual in USUAL),
        ]  # fmt: skip
    else:
        mixed = [
            ("squares-mixed", f"The {what} keeps 1 - {x} and takes {x}: they are swapped.",
             {"kept2": 1 - k, "taken2": k}),
            ("squares-scale", f"The square enters the {what} without 1 - {x}.", {"taken2": 1.0}),
            ("squares-kept", f"The {what} keeps all of itself: {x} is missing.", {"kept2": 1.0}),
            ("squares-kept", f"The {what} keeps all of itself: {x} is missing.",
             {"kept2": 1.0, "taken2": 1.0}),
            ("squares-correction", f"The {what} is corrected for its bias.", {"corrects2": k}),
        ]  # fmt: skip
    state = rule.taken2  # a run keeps its state over this, and its root is that much larger
    r, root = math.sqrt(state), np.sqrt
    inside = "ε stands inside the root: √(v + ε), not √v + ε."
    place = "ε is added to the root of the state as it is kept, without the factor that goes with it."
    no_root = "It divides by the squares themselves: the root is missing."
    denominators: list[tuple[str, str, Callable[[Array, float, float], Array]]] = [
        ("no-root", no_root, lambda v, c, e: v / c + e),
        ("no-root", no_root, lambda v, c, e: (v / state + e) * (r / math.sqrt(c))),
        ("no-root", no_root, lambda v, c, e: v / state * (r / math.sqrt(c)) + e),
        ("not-divided", "The gradient is not divided by the root of its squares.",
         lambda v, *_: np.ones_like(v)),
        ("root-of-root", "The root is taken twice.", lambda v, c, e: root(root(v / c)) + e),
        ("epsilon-inside", inside, lambda v, c, e: root(v / c + e)),
        ("epsilon-inside", inside, lambda v, c, e: root((v + e) / c)),
        ("epsilon-inside", inside, lambda v, c, e: root((v + e * state) / c)),
        ("epsilon-inside", inside, lambda v, c, e: root((v + e * r) / c)),
        ("epsilon-place", "ε is added before the bias correction.",
         lambda v, c, e: (root(v) + e) / math.sqrt(c)),
        ("epsilon-place", place, lambda v, c, e: root(v / c) + e * r / math.sqrt(c)),
        ("epsilon-place", place, lambda v, c, e: root(v / c) + e * r),
        ("epsilon-place", place, lambda v, c, e: root(v / c) + e / r),
        ("epsilon-place", "ε is the smallest that the root may be, and not added.",
         lambda v, c, e: np.maximum(root(v / c), e)),
        ("epsilon-twice", "ε is added twice.", lambda v, c, e: root(v / c + e) + e),
    ]  # fmt: skip
    return [
        *mixed,
        ("squares-kept", "Squares are forgotten: it divides by the gradient's own size.",
         {"kept2": 0.0}),
        ("squares-kept", "Squares are forgotten: it divides by the gradient's own size.",
         {"kept2": 0.0, "taken2": 1.0, "corrects2": None}),
        *((kind, what, {"below": lambda v, c, e, _, of=below: of(v, c, e)})
          for kind, what, below in denominators),
        ("not-squared", "The gradient's size is kept, not its square.",
         {"square": lambda g, _: np.abs(g)}),
        ("not-squared", "The gradient is kept, not its square.", {"square": lambda g, _: g}),
        ("late-squares", "It divides by the squares as they were before the step.",
         {"late": True}),
        ("epsilon-missing", "ε is missing.", {"epsilon": 0.0}),
        ("epsilon-place", "ε² is added, not ε.", {"epsilon": e**2}),
        ("epsilon-place", "√ε is added, not ε.", {"epsilon": math.sqrt(e)}),
        ("epsilon-sign", "ε is taken off the root, not added.", {"epsilon": -e}),
        ("epsilon-twice", "ε is added twice.", {"epsilon": 2 * e}),
    ]  # fmt: skip


def _both_moments(rule: Rule) -> list[Row]:
    a, b = rule.kept, rule.kept2
    by_first = "β₁ is used for the second moment, where β₂ belongs."
    by_second = "β₂ is used for the first moment, where β₁ belongs."
    outside = "The bias correction of the second moment stands outside of the root."
    never_falls = "The second moment never falls, as AMSGrad's."
    of = "The {} moment's bias correction is a step {}."
    swapped = {"kept": b, "taken": 1 - b, "kept2": a, "taken2": 1 - a}
    return [
        *(("adam-betas", by_first, each) for each in (
            {"kept2": a}, {"taken2": 1 - a}, {"kept2": a, "taken2": 1 - a},
            {"kept2": a, "corrects2": a}, {"kept2": a, "taken2": 1 - a, "corrects2": a})),
        *(("adam-betas", by_second, each) for each in (
            {"kept": b}, {"taken": 1 - b}, {"kept": b, "taken": 1 - b},
            {"kept": b, "corrects": b}, {"kept": b, "taken": 1 - b, "corrects": b})),
        *(("adam-betas", "β₁ and β₂ are swapped.", each) for each in (
            {"kept": b, "kept2": a}, swapped, swapped | {"corrects": b, "corrects2": a})),
        ("adam-correction", "The second moment is not corrected for its bias.",
         {"corrects2": None}),
        ("adam-correction", "The first moment is not corrected for its bias.", {"corrects": None}),
        ("adam-correction", "Neither moment is corrected for its bias.",
         {"corrects": None, "corrects2": None}),
        ("adam-correction", "The second moment's bias is corrected with β₁.", {"corrects2": a}),
        ("adam-correction", "The first moment's bias is corrected with β₂.", {"corrects": b}),
        ("adam-correction", "The bias corrections are swapped.", {"corrects": b, "corrects2": a}),
        ("adam-correction", outside, {"below": lambda v, c, e, _: np.sqrt(v) / c + e}),
        ("adam-correction", outside, {"below": lambda v, c, e, _: np.sqrt(v * (1 - b)) / c + e}),
        ("adam-step", of.format("first", "ahead"), {"ahead": (1, 0)}),
        ("adam-step", of.format("first", "behind"), {"ahead": (-1, 0)}),
        ("adam-step", of.format("second", "ahead"), {"ahead": (0, 1)}),
        ("adam-step", of.format("second", "behind"), {"ahead": (0, -1)}),
        ("adam-square-of", "The second moment is made of the first one's square, not the "
         "gradient's.", {"square": lambda _, m: m * m}),
        ("adam-square-of", "The second moment is made of (g - m)², not of g².",
         {"square": lambda g, m: (g - m) ** 2}),
        ("adam-lookahead", "The first moment looks ahead, as Nadam's.",
         {"of_m": a, "of_g": 1 - a}),
        ("adam-maximum", never_falls, {"highest": True}),
    ]  # fmt: skip
