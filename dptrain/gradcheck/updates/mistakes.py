"""What is known to go wrong with updates: tables of mistakes, by subject.

A row is a kind, a sentence, and the pieces of the book's recipe that are others.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign, shard_sizes
from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.updates.course import Course
from dptrain.gradcheck.updates.numbers import settings_of
from dptrain.gradcheck.updates.optimizers import constants_of, wrong_rules
from dptrain.gradcheck.updates.rates import Row, epoch_length, scaled
from dptrain.gradcheck.updates.textbook import Given, Penalty, Recipe, factor_of, norm_of

Array = NDArray[Any]
Known = Mistake[Recipe]
Clip = Callable[[Given], Array]
Norm = tuple[str, str, Callable[[Given], float]]  # a kind, words, and the norm


def known_mistakes(run: Course) -> Iterator[Known]:
    """Yield the mistakes that could show, the simpler ones first."""
    for rows in (_wholes, _counts, _forgotten, _clippings, _penalties, _rules):
        try:
            for kind, sentence, changes in rows(run):
                yield Mistake(kind, sentence, replace(run.book, **changes))
        except Exception:  # noqa: BLE001, S112 - the rows of one subject are made of what may be broken
            continue


def _spans(run: Course) -> list[tuple[int, int]]:
    return [(t.start, t.stop) for t in run.tensors if t.trained]


def _wholes(run: Course) -> Iterator[Row]:
    """Yield what can be wrong with an update as a whole."""
    book, first = run.book, run.numbers[0] if run.numbers else 0
    yield "gradient-sign", "The gradient has the wrong sign.", {"clip": lambda given: -_limited(
        given.gradient, book.limit)}  # fmt: skip
    upwards = {"rates": scaled(book.rates, -1)}
    yield "ascends", "The weights move up the gradient, not down.", upwards
    yield "update-applied-twice", "The update is applied twice in a step.", {"times": 2}
    keeps = "Running averages keep what they should take: momentum and 1 - momentum swapped."
    backwards = np.where(book.averaging > 0, 1 - book.averaging, 0.0)
    yield "average-momentum-swapped", keeps, {"averaging": backwards}
    if first and book.rule.scales:
        again = "A run that is carried on counts its steps from 0 again."
        behind = {"rates": lambda n: book.rates(n - first), "count": lambda n: n + 1 - first}
        yield "state-lost", again, behind


def _counts(run: Course) -> Iterator[Row]:
    """Yield what t of the bias correction may be instead of the step's number from 1."""
    job, period, workers = run.job, epoch_length(run.job), run.workers
    warm, rows = job.experiment.warmup, job.batch_size
    counts: list[tuple[str, Callable[[int], int]]] = [
        (" is off by one: t is one too large", lambda n: n + 2),
        (" is off by one: t is one too small", lambda n: n),
        (" t begins again with every epoch", lambda n: n % period + 1),
        (" t counts epochs, not steps", lambda n: n // period + 1),
        (" t counts every step twice", lambda n: 2 * (n + 1)),
        (f" t counts every step {workers} times, once for each worker",
         lambda n: workers * (n + 1)),
        (" t stays at 1", lambda _: 1),
        (" t counts from the end of the warm-up", lambda n: n + 1 - warm),
        (" t counts rows, not steps", lambda n: (n + 1) * rows),
        (" t is so large that nothing is corrected", lambda _: 10**9),
    ]  # fmt: skip
    for what, count in counts if run.book.rule.corrects is not None else ():
        yield "adam-step", f"The bias correction's step{what}.", {"count": count}


def _forgotten(run: Course) -> Iterator[Row]:
    """Yield where a state, or a part of it, is lost: in one step, in all, or again and again."""
    names = {"": "optimizer's state", "mean": "first moment", "squares": "second moment"}
    scales, counted = run.book.rule.scales, run.book.rule.corrects is not None
    begins = frozenset(n for n in run.numbers if n and n % epoch_length(run.job) == 0)
    once = [("state-lost", f"lost before step {n}", frozenset([n])) for n in run.numbers]
    again = ("state-cleared", "cleared where an epoch begins", begins)
    always = ("state-lost", "not kept: every step begins with a new one", frozenset(run.numbers))
    for part in ["", *(scales if len(scales) > 1 else ())] if scales else ():
        for kind, what, steps in (always, again) if part else (always, *once, again):

            def keeps(n: int, name: str, steps: Any = steps, part: str = part) -> bool:
                return n not in steps or part not in ("", name)

            def count(n: int, steps: Any = steps) -> int:
                return n + 1 - max((each for each in steps if each <= n), default=0)

            sentence = f"The {names[part]} is {what}"
            if steps:
                yield kind, f"{sentence}.", {"keeps": keeps}
            if steps and counted and not part:
                both = {"keeps": keeps, "count": count}
                yield kind, f"{sentence}, and its count of steps.", both


def wrong_norms(run: Course) -> Iterator[Norm]:
    """Yield the norms by which a gradient could be clipped by mistake, with kind and words."""
    book, workers, partials = run.book, run.workers, run.partials

    def summed(spans: Sequence[tuple[int, int]]) -> Callable[[Given], float]:
        return lambda given: sum(norm_of(given.gradient[a:b]) for a, b in spans)

    rows: list[Norm] = [
        ("norm-without-root", "its squared norm: the root is missing",
         lambda given: norm_of(given.gradient) ** 2),
        ("norms-summed", "the sum of its tensors' norms, not of their squares",
         summed(_spans(run))),
        ("norm-of-averages", "a norm in which running averages, or what is frozen, count",
         lambda given: norm_of(given.whole)),
        ("norm-of-penalties", "a norm in which the penalties count", lambda given: norm_of(
            given.gradient + book.l1.gradient(given) + book.decay.gradient(given))),
        ("norm-mean", "the root of its squares' mean",
         lambda given: norm_of(given.gradient) / len(given.gradient) ** 0.5),
        ("norm-mean", "the root of its squares' mean over what is trained",
         lambda given: norm_of(given.gradient) / (np.count_nonzero(given.gradient) or 1) ** 0.5),
        ("norm-largest", "its largest element",
         lambda given: float(np.abs(given.gradient).max(initial=0))),
        ("norm-sizes", "the sum of its elements' sizes",
         lambda given: float(np.abs(given.gradient).sum())),
        ("norm-epsilon", "its norm and 1e-6", lambda given: norm_of(given.gradient) + 1e-6),
        ("norm-of-weights", "the weights' norm", lambda given: norm_of(given.weights)),
    ]  # fmt: skip
    again = "a norm that all ranks know already and that is reduced again: "
    for factor, what in (
        (workers, f"it is taken {workers} times"),
        (1 / workers, f"it is divided by the {workers} workers"),
        (math.sqrt(workers), f"its square is taken {workers} times"),
        (1 / math.sqrt(workers), f"its square is divided by the {workers} workers"),
    ) if workers > 1 else ():  # fmt: skip
        rows.append(("norm-reduced-again", again + what, partial(_scaled, factor)))
    if len(run.slices) > 1:
        words = "the sum of the ranks' slices' norms, not of their squares"
        rows.append(("norms-summed", words, summed(run.slices)))
    if partials:
        words = "the sum of the ranks' parts' norms, not of their squares"
        rows.append(
            ("norms-summed", words, lambda given: sum(map(norm_of, partials[given.number])))
        )
    yield from rows


def _clippings(run: Course) -> Iterator[Row]:
    """Yield what can be wrong with clipping."""
    limit = run.book.limit
    if not math.isfinite(limit):
        return
    yield "not-clipped", "The gradient is not clipped.", {"limit": math.inf}
    for kind, words, norm in wrong_norms(run):
        by_norm = partial(_clipped_by, partial(factor_of, limit=limit), norm)
        yield kind, f"The gradient is clipped by {words}.", {"clip": by_norm}
    larger = "Gradients smaller than the limit are scaled up to it"
    factors: list[tuple[str, str, Callable[[float], float]]] = [
        ("clip-grows", larger, lambda norm: limit / norm),
        ("clip-inverted", f"{larger}, larger ones stay", lambda norm: max(1.0, limit / norm)),
        ("clip-inverted", "The gradient is multiplied by its norm over the limit",
         lambda norm: norm / limit),
        ("clip-twice", "The gradient is clipped by its factor twice",
         lambda norm: min(1.0, limit / norm) ** 2),
        ("clip-to-1", "The gradient is clipped to a norm of 1, not to the limit",
         lambda norm: min(1.0, 1 / norm)),
        ("clip-unlimited", "The gradient is divided by its norm; the limit is not in it",
         lambda norm: 1 / norm),
        ("clip-halved", "The factor of clipping is limit / (limit + norm)",
         lambda norm: limit / (limit + norm)),
        ("clip-root", "The root of the factor is taken",
         lambda norm: min(1.0, limit / norm) ** 0.5),
    ]  # fmt: skip
    for kind, sentence, factor in factors:
        yield kind, f"{sentence}.", {"clip": partial(_clipped_by, factor, partial(_scaled, 1.0))}
    after = "The gradient is clipped after the penalties were added, and by their norm too."
    yield "clip-order", after, {"clips_last": True}
    for kind, sentence, clip in _clipped_in_parts(run):
        yield kind, sentence, {"clip": clip}


def _scaled(factor: float, given: Given) -> float:
    return factor * norm_of(given.gradient)


def _clipped_by(
    factor: Callable[[float], float], norm: Callable[[Given], float], given: Given
) -> Array:
    found: Array = given.gradient * factor(norm(given) or 1e-300)
    return found


def _limited(g: Array, limit: float) -> Array:
    found: Array = g * factor_of(norm_of(g), limit)
    return found


def _clipped_in_parts(run: Course) -> Iterator[tuple[str, str, Clip]]:
    """Yield clipping by element, by tensor, by slice and by rank."""
    job, limit, partials = run.job, run.book.limit, run.partials

    def by(spans: Sequence[tuple[int, int]]) -> Clip:
        def clip(given: Given) -> Array:
            found = given.gradient.copy()
            for a, b in spans:
                found[a:b] = _limited(found[a:b], limit)
            return found

        return clip

    def by_rank(given: Given, *, shares: bool = False) -> Array:
        sizes = shard_sizes(job.rows(given.number), job.shards)
        ranks = assign(job.shards, run.workers)
        limits = [limit * (sum(sizes[a:b]) / sum(sizes) if shares else 1) for a, b in ranks]
        parts = zip(partials[given.number], limits, strict=True)
        found: Array = np.sum([_limited(g, most) for g, most in parts], axis=0)
        return found

    own, what = "Every rank clips its own part of the gradient", "not the whole gradient."
    yield "clipped-by-tensor", f"Every tensor is clipped by itself, {what}", by(_spans(run))
    by_element: Clip = lambda given: np.clip(given.gradient, -limit, limit)  # noqa: E731
    yield "clipped-by-element", f"Every element is clipped by itself, {what}", by_element
    if len(run.slices) > 1:
        by_itself = "Every rank clips its slice by that slice's own norm."
        yield "clipped-by-slice", by_itself, by(run.slices)
    if partials:
        yield "clip-before-reduce", f"{own} before they are summed.", by_rank
        twice = f"{own}, and their sum is clipped once more."
        yield "clip-before-reduce", twice, lambda given: _limited(by_rank(given), limit)
        means = "Every rank clips the mean gradient of its own rows, and nobody the sum."
        yield "clip-before-reduce", means, lambda given: by_rank(given, shares=True)


def _penalties(run: Course) -> Iterator[Row]:
    """Yield what can be wrong with weight decay and the L1 penalty, each alone and both."""
    book, own = run.book, {}
    for which, name in (("decay", "Weight decay"), ("l1", "The L1 penalty")):
        penalty: Penalty = getattr(book, which)
        if penalty.coefficient:
            own[which] = penalty
            for kind, sentence, changes in _of_penalty(run, which, name, penalty):
                yield kind, sentence, {which: replace(penalty, **changes)}
    if len(own) == 2:
        swapped = "The coefficients of L1 penalty and weight decay are swapped."
        others = {"decay": book.l1.coefficient, "l1": book.decay.coefficient}
        changed = {k: replace(p, coefficient=others[k]) for k, p in own.items()}
        yield "penalties-swapped", swapped, changed
        everywhere = {k: replace(p, often=book.trained.astype(float)) for k, p in own.items()}
        yield "decay-on-biases", "Penalties apply to biases too.", everywhere


def _of_penalty(run: Course, which: str, name: str, penalty: Penalty) -> Iterator[Row]:
    workers, limit, base = run.workers, run.book.limit, run.job.experiment.lr
    kind = "weight-decay" if which == "decay" else "l1"
    for by, often, what in (
        (workers, "multiplied", f"applied {workers} times, once for each worker"),
        (1 / workers, "divided", f"divided by the {workers} workers"),
    ) if workers > 1 else ():  # fmt: skip
        changed = {"coefficient": penalty.coefficient * by}
        yield f"weight-decay-{often}", f"{name} is {what}.", changed
    yield f"{kind}-missing", f"{name} is missing.", {"coefficient": 0.0}
    every = {"often": run.book.trained.astype(float)}
    yield "decay-on-biases", f"{name} applies to biases too.", every
    way = "bypasses the gradient" if penalty.coupled else "goes through the moments, as for adam"
    yield f"{kind}-coupling", f"{name} {way}.", {"coupled": not penalty.coupled}
    if math.isfinite(limit) and penalty.coupled:
        what = f"The factor of clipping scales {name[0].lower()}{name[1:]} as well."
        yield "clip-scales-decay", what, {"of": lambda given: penalty.of(given) * factor_of(
            norm_of(given.gradient), limit)}  # fmt: skip
    for kind, what, of in _FORMS[which]:
        yield kind, f"{name}{what}.", {"of": of}
    if not penalty.coupled:
        past: list[Row] = [
            ("without-rate", "is not multiplied by the learning rate", {"rate": lambda _: 1.0}),
            ("without-schedule", "is multiplied by the base learning rate, not by that of the step",
             {"rate": lambda _: base}),
            ("rate-twice", "is multiplied by the learning rate twice", {"rate": lambda lr: lr**2}),
            ("sign", "lets the weights grow: it has the wrong sign", {"rate": lambda lr: -lr}),
            ("late", "is applied to the updated weights, not to those before the step",
             {"late": True}),
        ]  # fmt: skip
        yield from ((f"decay-{kind}", f"{name} {what}.", changes) for kind, what, changes in past)


_FORMS: dict[str, list[tuple[str, str, Clip]]] = {
    "decay": [
        ("l2-as-l1", " is λ sign(w), not λ w", lambda given: np.sign(given.weights)),
        ("l2-of-size", " is λ |w|, not λ w", lambda given: np.abs(given.weights)),
        ("l2-squared", " is λ w², not λ w", lambda given: given.weights**2),
        ("l2-of-gradient", " is λ g, not λ w", lambda given: given.gradient),
    ],
    "l1": [
        ("l1-at-zero", " moves weights that are exactly 0 down: sign(0) is 1",
         lambda given: np.where(given.weights < 0, -1, 1)),
        ("l1-at-zero", " moves weights that are exactly 0 up: sign(0) is -1",
         lambda given: np.where(given.weights > 0, 1, -1)),
        ("l1-as-l2", "'s gradient is l1 w, not l1 sign(w)", lambda given: given.weights),
        ("l1-of-size", "'s gradient is l1 |w|, not l1 sign(w)",
         lambda given: np.abs(given.weights)),
        ("l1-constant", "'s gradient is l1 for every weight, whatever its sign",
         lambda given: np.ones_like(given.weights)),
        ("l1-of-gradient", " goes by the gradient's sign, not by the weight's",
         lambda given: np.sign(given.gradient)),
    ],
}  # fmt: skip


def _rules(run: Course) -> Iterator[Row]:
    """Yield what can be wrong in the job's rule."""
    rule = run.book.rule
    rows: Iterable[Any] = wrong_rules(rule)
    made = [(kind, what, replace(rule, **changes)) for kind, what, changes in rows]
    for each in constants_of(rule):
        made += each.others(rule, settings_of(run.job))
    yield from ((kind, what, {"rule": each}) for kind, what, each in made if each != rule)
