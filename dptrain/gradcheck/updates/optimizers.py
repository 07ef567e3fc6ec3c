"""The update rules as they were published, in one form whose constants and pieces are open.

For another optimizer write its rule in `BOOK`; what can go wrong with its moments and its
denominator follows from that. Nothing is shared with `dptrain.optim`: the state is kept in the
published scale, and every number carries a bound of what rounding can do to it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.reference.bounded import UNITS, Bounded
from dptrain.gradcheck.updates.numbers import Constant, Of, rest, same

Array = NDArray[Any]
Row = tuple[str, str, dict[str, Any]]  # a kind, a sentence, and what is otherwise
DOUBLE = UNITS["float64"]


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


def _momentum(e: Settled, of_g: float, of_m: float) -> Rule:
    return Rule("velocity", e.coefficient("momentum"), of_g=of_g, of_m=of_m, letters=("μ", ""))


def _divided_gradient(e: Settled, kept: float, taken: float) -> Rule:
    return Rule(
        of_g=1.0, squares=True, kept2=kept, taken2=taken, epsilon=e.coefficient("epsilon"),
        letters=("", "The decay"),
    )  # fmt: skip


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
    "momentum": lambda e: _momentum(e, 0.0, 1.0),
    "nesterov": lambda e: _momentum(e, 1.0, e.coefficient("momentum")),
    "adagrad": lambda e: _divided_gradient(e, 1.0, 1.0),
    "rmsprop": lambda e: _divided_gradient(e, e.coefficient("decay"), 1 - e.coefficient("decay")),
    "adam": lambda e: _adam(e, decoupled=False),
    "adamw": lambda e: _adam(e, decoupled=True),
    "lion": _lion,
}


def rule_of(job: Job) -> Rule:
    """Return the rule that a job's optimizer should be."""
    return BOOK[job.experiment.optimizer](job.experiment)


def constants_of(rule: Rule) -> list[Constant]:
    """Return the numbers of a rule that may be others by mistake."""
    what, (first, second), found = _moment_of(rule), rule.letters, list[Constant]()
    near_1: Any = (-6.0, 0.0, lambda z: 1 - 10**z)
    powers: Any = (-16.0, 1.0, lambda z: 10**z)

    def wrong(kind: str, words: str, right: float, search: Any = near_1, **fields: Of) -> None:
        found.append(Constant(kind, words, right, fields, *search))

    k, k2 = rule.kept, rule.kept2
    if rule.corrects is not None:
        wrong("adam-correction", "What the first moment's bias is corrected with", k, corrects=same)
        wrong(
            "adam-correction", "What the second moment's bias is corrected with", k2, corrects2=same
        )
        wrong("moment-kept", first, k, kept=same, taken=rest, corrects=same)
        wrong("squares-kept", second, k2, kept2=same, taken2=rest, corrects2=same)
    elif rule.squares and k2 != 1:
        wrong("squares-kept", second, k2, kept2=same, taken2=rest)
    if rule.moment:
        wrong("moment-kept", f"What the {what} keeps of itself", k, kept=same)
        wrong("moment-taken", f"What the {what} takes of the gradient", rule.taken, (), taken=same)
    if rule.of_m == k:
        wrong("moment-kept", first, k, kept=same, of_m=same)
    if rule.signed:
        wrong("moment-kept", first, k, kept=same, taken=rest)
        step = "β₁, as the step has it,"
        wrong("moment-in-step", step, rule.of_old, of_old=same, of_g=rest)
    if rule.squares:
        squares = f"What the squares' {'sum' if k2 == 1 else 'mean'}"
        wrong("squares-kept", f"{squares} keeps of itself", k2, kept2=same)
        wrong("squares-taken", f"{squares} takes of a square", rule.taken2, (), taken2=same)
        wrong("epsilon", "ε", rule.epsilon, powers, epsilon=same)
    return found


def _moment_of(rule: Rule) -> str:
    return "velocity" if rule.moment == "velocity" else "first moment" if rule.squares else "mean"


def wrong_rules(rule: Rule) -> Iterator[Row]:
    """Yield what can be wrong in a rule beside its constants: kind, sentence and changes."""
    if rule.moment:
        minus = {"kept": -rule.kept, "of_old": -rule.of_old}
        yield "momentum-sign", "The momentum has the wrong sign.", minus
    if rule.of_m == 1:
        what = f"The step goes along the {_moment_of(rule)} of the step before."
        yield "moment-late", what, {"of_m": 0.0, "of_old": 1.0}
    if rule.moment == "velocity":
        yield from _velocity(rule)
    if rule.signed:
        yield "sign", "The sign is missing.", {"signed": False}
    if rule.squares:
        yield from _divided(rule)
    if rule.moment and rule.squares:
        yield from _both_moments(rule)


def _velocity(rule: Rule) -> Iterator[Row]:
    mu = rule.kept
    names = {(0, 1.0): ", as plain momentum does", (1, mu): ", as Nesterov's does"}
    parts = {"": 0.0, "v": 1.0, "μ v": mu, "-μ v": -mu, "(1 + μ) v": 1 + mu, "μ² v": mu * mu}
    for (what, of_m), of_g in product(parts.items(), (0, 1)):
        along = " + ".join(["g"] * of_g + [what] * bool(what))
        sentence = f"The step goes along {along}{names.get((of_g, of_m), '')}."
        if along:
            yield "velocity-step", sentence, {"of_g": float(of_g), "of_m": of_m}
    what = (
        "The learning rate stands in the velocity: v ← μ v + lr g, which is something else where "
    )
    yield "velocity-rate", f"{what}the rate changes.", {"rate_inside": True}


def _divided(rule: Rule) -> Iterator[Row]:
    """Yield what can be wrong with squares and denominator, for all rules that divide."""
    state, root = rule.taken2, np.sqrt
    r = math.sqrt(state)  # a run keeps its squares over the state: their root is that much larger
    no_root = "It divides by the squares themselves: the root is missing."
    inside = "ε stands inside the root: √(v + ε), not √v + ε."
    kept = (
        "ε is added to the root of the state as it is kept, without the factor that goes with it."
    )
    below: list[tuple[str, str, Callable[[Array, float, float], Array]]] = [
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
        ("epsilon-place", kept, lambda v, c, e: root(v / c) + e * r / math.sqrt(c)),
        ("epsilon-place", kept, lambda v, c, e: root(v / c) + e * r),
        ("epsilon-place", kept, lambda v, c, e: root(v / c) + e / r),
        ("epsilon-place", "ε is the smallest that the root may be, and not added.",
         lambda v, c, e: np.maximum(root(v / c), e)),
        ("epsilon-sign", "ε is taken off the root, not added.", lambda v, c, e: root(v / c) - e),
        ("epsilon-twice", "ε is added twice.", lambda v, c, e: root(v / c) + 2 * e),
        ("epsilon-twice", "ε is added twice.", lambda v, c, e: root(v / c + e) + e),
    ]  # fmt: skip
    for kind, what, of in below:
        yield kind, what, {"below": lambda v, c, e, _, of=of: of(v, c, e)}
    yield (
        "not-squared",
        "The gradient's size is kept, not its square.",
        {"square": lambda g, _: np.abs(g)},
    )
    yield "not-squared", "The gradient is kept, not its square.", {"square": lambda g, _: g}
    late = "It divides by the squares as they were before the step."
    yield "late-squares", late, {"late": True}
    if rule.corrects2 is None:
        corrected = "The squares are corrected for their bias, as Adam's."
        yield "squares-correction", corrected, {"corrects2": rule.kept2}
    if rule.kept2 == 1:
        mean = "It divides by the root of the squares' mean, not of their sum."
        yield "squares-mean", mean, {"below": lambda h, _, e, t: root(h / t) + e}


def _both_moments(rule: Rule) -> list[Row]:
    a, b = rule.kept, rule.kept2
    outside = "The bias correction of the second moment stands outside of the root."
    swapped = {"kept": b, "taken": 1 - b, "kept2": a, "taken2": 1 - a}
    step = "moment's bias correction is a step"
    return [
        ("adam-betas", "β₁ and β₂ are swapped.", {"kept": b, "kept2": a}),
        ("adam-betas", "β₁ and β₂ are swapped.", swapped),
        ("adam-betas", "β₁ and β₂ are swapped.", swapped | {"corrects": b, "corrects2": a}),
        ("adam-correction", "The second moment is not corrected for its bias.",
         {"corrects2": None}),
        ("adam-correction", "The first moment is not corrected for its bias.", {"corrects": None}),
        ("adam-correction", "Neither moment is corrected for its bias.",
         {"corrects": None, "corrects2": None}),
        ("adam-correction", "The bias corrections are swapped.", {"corrects": b, "corrects2": a}),
        ("adam-correction", outside, {"below": lambda v, c, e, _: np.sqrt(v) / c + e}),
        ("adam-correction", outside, {"below": lambda v, c, e, _: np.sqrt(v * (1 - b)) / c + e}),
        ("adam-step", f"The first {step} ahead.", {"ahead": (1, 0)}),
        ("adam-step", f"The first {step} behind.", {"ahead": (-1, 0)}),
        ("adam-step", f"The second {step} ahead.", {"ahead": (0, 1)}),
        ("adam-step", f"The second {step} behind.", {"ahead": (0, -1)}),
        ("adam-square-of", "The second moment is made of the first one's square.",
         {"square": lambda _, m: m * m}),
        ("adam-lookahead", "The first moment looks ahead, as Nadam's.",
         {"of_m": a, "of_g": 1 - a}),
        ("adam-unused", "The step goes along the gradient, not along the first moment.",
         {"of_m": 0.0, "of_g": 1.0}),
    ]  # fmt: skip
