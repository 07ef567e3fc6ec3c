"""What is known to go wrong with updates: tables of mistakes, by subject.

A row is a kind, a sentence and the pieces of the book's recipe that are others.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign, shard_sizes
from dptrain.exchange.slices import slices
from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.updates import optimizers
from dptrain.gradcheck.updates.numbers import settings_of
from dptrain.gradcheck.updates.optimizers import Rule
from dptrain.gradcheck.updates.rates import epoch_length, scaled
from dptrain.gradcheck.updates.textbook import Given, Penalty, Recipe, factor_of, norm_of

Array = NDArray[Any]
Changes = dict[str, Any]
Rows = Sequence[tuple[str, str, Changes]]
Partials = dict[int, Array]
Known = Mistake[Recipe]
Norm = tuple[str, str, Callable[[Given], float]]  # a kind, words, and the norm


def wrong_rules(job: Job, book: Recipe) -> Iterator[Known]:
    """Yield what can be wrong in the job's rule."""
    rule = book.rule
    for kind, sentence, changes in optimizers.wrong_rules(rule):
        changed = replace(rule, **changes)
        if changed != rule:
            yield Mistake(kind, sentence, replace(book, rule=changed))
    for each in optimizers.constants_of(rule):
        for kind, sentence, changed in each.others(rule, settings_of(job)):
            yield Mistake(kind, sentence, replace(book, rule=changed))


def wrong_updates(job: Job, book: Recipe, workers: int, numbers: Sequence[int]) -> Iterator[Known]:
    """Yield what can be wrong with an update as a whole, its count of steps and its state.

    Args:
        job: settled.
        book: the right recipe.
        workers: the world size, by which much is multiplied or divided that should not be.
        numbers: of the steps that were seen.
    """
    right, period, warm = book.rates, epoch_length(job), job.experiment.warmup
    first = numbers[0] if numbers else 0
    backwards = np.where(book.averaging > 0, 1 - book.averaging, 0.0)
    keeps = "Running averages keep what they should take: momentum and 1 - momentum swapped."
    rows: list[tuple[str, str, Changes]] = [
        ("gradient-sign", "The gradient has the wrong sign.", {"clip": lambda given: (
            -given.gradient * factor_of(norm_of(given.gradient), book.limit))}),
        ("ascends", "The weights move up the gradient, not down.", {"rates": scaled(right, -1)}),
        ("update-applied-twice", "The update is applied twice in a step.", {"times": 2}),
        ("average-momentum-swapped", keeps, {"averaging": backwards}),
    ]
    if first and book.rule.moment + "squares" * book.rule.squares:
        again = {"rates": lambda n: right(n - first), "count": lambda n: n + 1 - first}
        rows.append(
            ("state-lost", "A run that is carried on counts its steps from 0 again.", again)
        )
    if book.rule.corrects is not None:
        t = "The bias correction's step t"
        off = "The bias correction's step is off by one: t is one too"
        many = f"{t} counts every step {workers} times, once for each worker."
        counts: list[tuple[str, Callable[[int], int]]] = [
            (f"{off} large.", lambda n: n + 2),
            (f"{off} small.", lambda n: n),
            (f"{t} begins again with every epoch.", lambda n: n % period + 1),
            (f"{t} counts epochs, not steps.", lambda n: n // period + 1),
            (f"{t} counts every step twice.", lambda n: 2 * (n + 1)),
            (many, lambda n: workers * (n + 1)),
            (f"{t} stays at 1.", lambda _: 1),
            (f"{t} counts from the end of the warm-up.", lambda n: n + 1 - warm),
            (f"{t} counts rows, not steps.", lambda n: (n + 1) * job.batch_size),
            (f"{t} is so large that nothing is corrected.", lambda _: 10**9),
        ]
        rows += [("adam-step", what, {"count": count}) for what, count in counts]
    for kind, sentence, changes in [*rows, *_forgotten(job, book.rule, numbers)]:
        yield Mistake(kind, sentence, replace(book, **changes))


def _forgotten(job: Job, rule: Rule, numbers: Sequence[int]) -> Iterator[tuple[str, str, Changes]]:
    """Yield where a state, or a part of it, is lost: in one step, in all, or again and again."""
    names = {"": "optimizer's state", "mean": "first moment", "squares": "second moment"}
    parts = [*rule.scales] if len(rule.scales) > 1 else []
    begins = frozenset(n for n in numbers if n and n % epoch_length(job) == 0)

    def lost(when: frozenset[int] | None, part: str, *, counts: bool) -> Changes:
        def keeps(step: int, name: str) -> bool:
            return part not in ("", name) or (when is not None and step not in when)

        def count(step: int) -> int:
            return step + 1 - max((n for n in when or () if n <= step), default=0)

        return {"keeps": keeps} | ({"count": count} if counts else {})

    for part in ["", *parts] if rule.scales else ():
        what = f"The {names[part]} is"
        never = f"{what} not kept: every step begins with a new one."
        yield "state-lost", never, lost(None, part, counts=False)
        times = [("state-cleared", f"{what} cleared where an epoch begins", begins)]
        if not part:
            of_one = ((f"{what} lost before step {n}", frozenset([n])) for n in numbers)
            times = [*(("state-lost", *each) for each in of_one), *times]
        for kind, sentence, when in times:
            if when:
                yield kind, f"{sentence}.", lost(when, part, counts=False)
            if when and not part and rule.corrects is not None:
                yield kind, f"{sentence}, and its count of steps.", lost(when, part, counts=True)


def wrong_norms(job: Job, book: Recipe, workers: int, partials: Partials) -> Iterator[Norm]:
    """Yield the norms by which a gradient could be clipped by mistake, with kind and words.

    Args:
        job: settled.
        book: the right recipe.
        workers: the world size.
        partials: for each step, every rank's part of the gradient, ``(ranks, size)``; where they
            are missing, nothing is tried that needs them.
    """
    tensors = [(t.start, t.stop) for t in job.network.all_tensors() if t.trained]
    parts = [s for s in slices(job.network.size, workers) if s[0] < s[1]]

    def summed(spans: Sequence[tuple[int, int]]) -> Callable[[Given], float]:
        return lambda given: sum(norm_of(given.gradient[a:b]) for a, b in spans)

    yield "norm-without-root", "its squared norm: the root is missing", (
        lambda given: norm_of(given.gradient) ** 2
    )
    yield "norms-summed", "the sum of the norms of its tensors, not of their squares", (
        summed(tensors)
    )
    for times, what in (
        (workers, f"it is taken {workers} times"),
        (1 / workers, f"it is divided by the {workers} workers"),
        (math.sqrt(workers), f"its square is taken {workers} times"),
        (1 / math.sqrt(workers), f"its square is divided by the {workers} workers"),
    ) if workers > 1 else ():
        words = f"a norm that all ranks know already and that is reduced again: {what}"
        reduced = lambda given, times=times: times * norm_of(given.gradient)  # noqa: E731
        yield "norm-reduced-again", words, reduced
    if len(parts) > 1:
        words = "the sum of the norms of the ranks' slices, not of their squares"
        yield "norms-summed", words, summed(parts)
    if partials:
        words = "the sum of the norms of the ranks' parts, not of their squares"
        yield "norms-summed", words, lambda given: sum(map(norm_of, partials[given.number]))
    words = "a norm in which running averages, or what is frozen, count"
    yield "norm-of-averages", words, lambda given: norm_of(given.whole)
    yield "norm-of-penalties", "a norm in which the penalties count", lambda given: norm_of(
        given.gradient + book.l1.gradient(given) + book.decay.gradient(given)
    )
    plain: list[tuple[str, str, Callable[[Array], float]]] = [
        ("norm-mean", "the root of its squares' mean", lambda g: norm_of(g) / len(g) ** 0.5),
        ("norm-mean", "the root of its squares' mean over what is trained",
         lambda g: norm_of(g) / (np.count_nonzero(g) or 1) ** 0.5),
        ("norm-largest", "its largest element", lambda g: float(np.abs(g).max(initial=0))),
        ("norm-sizes", "the sum of its elements' sizes", lambda g: float(np.abs(g).sum())),
        ("norm-epsilon", "its norm and 1e-6", lambda g: norm_of(g) + 1e-6),
    ]  # fmt: skip
    for kind, words, norm in plain:
        yield kind, words, lambda given, norm=norm: norm(given.gradient)
    yield "norm-of-weights", "the weights' norm", lambda given: norm_of(given.weights)


def wrong_clipping(job: Job, book: Recipe, workers: int, partials: Partials) -> Iterator[Known]:
    """Yield what can be wrong with clipping; arguments as of `wrong_norms`."""
    limit, tiny = book.limit, 1e-300
    if not math.isfinite(limit):
        return
    yield Mistake("not-clipped", "The gradient is not clipped.", replace(book, limit=math.inf))
    for kind, words, norm in wrong_norms(job, book, workers, partials):
        clip = lambda given, norm=norm: given.gradient * factor_of(norm(given), limit)  # noqa: E731
        yield Mistake(kind, f"The gradient is clipped by {words}.", replace(book, clip=clip))
    factors: list[tuple[str, str, Callable[[float], float]]] = [
        ("clip-grows", "Gradients smaller than the limit are scaled up to it.",
         lambda norm: limit / norm),
        ("clip-inverted", "Gradients smaller than the limit are scaled up to it, larger ones stay.",
         lambda norm: max(1.0, limit / norm)),
        ("clip-inverted", "The gradient is multiplied by its norm over the limit.",
         lambda norm: norm / limit),
        ("clip-twice", "The gradient is clipped by its factor twice.",
         lambda norm: factor_of(norm, limit) ** 2),
        ("clip-to-1", "The gradient is clipped to a norm of 1, not to the limit.",
         lambda norm: min(1.0, 1 / norm)),
        ("clip-unlimited", "The gradient is divided by its norm; the limit is not in it.",
         lambda norm: 1 / norm),
        ("clip-halved", "The factor of clipping is limit / (limit + norm).",
         lambda norm: limit / (limit + norm)),
        ("clip-root", "The root of the factor is taken.",
         lambda norm: factor_of(norm, limit) ** 0.5),
    ]  # fmt: skip
    for kind, sentence, factor in factors:
        clip = lambda given, of=factor: (  # noqa: E731
            given.gradient * of(max(norm_of(given.gradient), tiny))
        )
        yield Mistake(kind, sentence, replace(book, clip=clip))
    element = "Every element is clipped by itself, to the limit, not the whole gradient."
    clip = lambda given: np.clip(given.gradient, -limit, limit)  # noqa: E731
    yield Mistake("clipped-by-element", element, replace(book, clip=clip))
    after = "The gradient is clipped after the penalties were added, and by their norm too."
    yield Mistake("clip-order", after, replace(book, clips_last=True))
    for kind, sentence, clip in _clipped_in_parts(job, limit, workers, partials):
        yield Mistake(kind, sentence, replace(book, clip=clip))


def _clipped_in_parts(
    job: Job, limit: float, workers: int, partials: Partials
) -> Iterator[tuple[str, str, Callable[[Given], Array]]]:
    """Yield clipping by tensor, by slice and by rank."""

    def limited(g: Array, share: float = 1.0) -> Array:
        found: Array = g * factor_of(norm_of(g), limit * share)
        return found

    def by(spans: Sequence[tuple[int, int]]) -> Callable[[Given], Array]:
        def clip(given: Given) -> Array:
            found = given.gradient.copy()
            for a, b in spans:
                found[a:b] = limited(found[a:b])
            return found

        return clip

    def by_rank(given: Given, *, shares: bool = False) -> Array:
        rows = job.rows(given.number)
        sizes = shard_sizes(rows, job.shards)
        own = [sum(sizes[a:b]) / rows for a, b in assign(job.shards, workers)]
        parts = zip(partials[given.number], own if shares else [1.0] * len(own), strict=True)
        return np.sum([limited(g, share) for g, share in parts], axis=0)

    tensors = [(t.start, t.stop) for t in job.network.all_tensors() if t.trained]
    parts = [s for s in slices(job.network.size, workers) if s[0] < s[1]]
    alone = "Every tensor is clipped by itself, not the whole gradient."
    yield "clipped-by-tensor", alone, by(tensors)
    if len(parts) > 1:
        own = "Every rank clips its slice by that slice's own norm."
        yield "clipped-by-slice", own, by(parts)
    if partials:
        before = "Every rank clips its own part of the gradient"
        again = f"{before}, and their sum is clipped once more."
        means = "Every rank clips the mean gradient of its own rows, and nobody the sum."
        yield "clip-before-reduce", f"{before} before they are summed.", by_rank
        yield "clip-before-reduce", again, lambda given: limited(by_rank(given))
        yield "clip-before-reduce", means, lambda given: by_rank(given, shares=True)


def wrong_penalties(book: Recipe, base: float, workers: int) -> Iterator[Known]:
    """Yield what can be wrong with weight decay and the L1 penalty, each alone and both.

    Args:
        book: the right recipe.
        base: the learning rate before its schedule.
        workers: the world size.
    """
    own = {k: p for k, p in (("decay", book.decay), ("l1", book.l1)) if p.coefficient}
    names = {"decay": "Weight decay", "l1": "The L1 penalty"}
    kinds = {"decay": "weight-decay", "l1": "l1"}
    for which, penalty in own.items():
        for kind, sentence, changes in _of_penalty(book, penalty, names[which], workers):
            kind = kind.replace("*", kinds[which])
            yield Mistake(kind, sentence, replace(book, **{which: replace(penalty, **changes)}))
        for kind, sentence, of in _FORMS[which]:
            yield Mistake(kind, sentence, replace(book, **{which: replace(penalty, of=of)}))
        if not penalty.coupled:
            for kind, sentence, changes in _past_the_rule(base):
                changed = replace(penalty, **changes)
                yield Mistake(kind, f"Weight decay {sentence}", replace(book, **{which: changed}))
    everywhere = {k: replace(p, often=book.trained.astype(float)) for k, p in own.items()}
    if len(own) == 2:
        swapped = {
            "decay": replace(book.decay, coefficient=book.l1.coefficient),
            "l1": replace(book.l1, coefficient=book.decay.coefficient),
        }
        what = "The coefficients of L1 penalty and weight decay are swapped."
        yield Mistake("penalties-swapped", what, replace(book, **swapped))
        both = "Penalties apply to biases too."
        yield Mistake("decay-on-biases", both, replace(book, **everywhere))
        none = {k: replace(p, coefficient=0.0) for k, p in own.items()}
        missing = "Weight decay is missing, and so is the L1 penalty."
        yield Mistake("weight-decay-missing", missing, replace(book, **none))


def _of_penalty(
    book: Recipe, penalty: Penalty, name: str, workers: int
) -> Iterator[tuple[str, str, Changes]]:
    """Yield what is wrong with the size and the way of a penalty."""
    if workers > 1:
        for by, kind, what in (
            (float(workers), "multiplied", f"applied {workers} times, once for each worker"),
            (1 / workers, "divided", f"divided by the {workers} workers"),
        ):
            changed = {"coefficient": penalty.coefficient * by}
            yield f"weight-decay-{kind}", f"{name} is {what}.", changed
    yield "*-missing", f"{name} is missing.", {"coefficient": 0.0}
    every = {"often": book.trained.astype(float)}
    yield "decay-on-biases", f"{name} applies to biases too.", every
    way = "bypasses the gradient" if penalty.coupled else "goes through the moments, as for adam"
    yield "*-coupling", f"{name} {way}.", {"coupled": not penalty.coupled}
    if math.isfinite(book.limit) and penalty.coupled:
        what = f"The factor of clipping scales {name[0].lower()}{name[1:]} as well."
        yield "clip-scales-decay", what, {"of": lambda given: penalty.of(given) * factor_of(
            norm_of(given.gradient), book.limit)}  # fmt: skip


_FORMS: dict[str, list[tuple[str, str, Callable[[Given], Array]]]] = {
    "decay": [
        ("l2-as-l1", "Weight decay is λ sign(w), not λ w.", lambda given: np.sign(given.weights)),
        ("l2-of-size", "Weight decay is λ |w|, not λ w.", lambda given: np.abs(given.weights)),
        ("l2-squared", "Weight decay is λ w², not λ w.", lambda given: given.weights**2),
        ("l2-of-gradient", "Weight decay is λ g, not λ w.", lambda given: given.gradient),
    ],
    "l1": [
        ("l1-at-zero", "The L1 penalty moves weights that are exactly 0 down: sign(0) is 1.",
         lambda given: np.where(given.weights < 0, -1, 1)),
        ("l1-at-zero", "The L1 penalty moves weights that are exactly 0 up: sign(0) is -1.",
         lambda given: np.where(given.weights > 0, 1, -1)),
        ("l1-as-l2", "The L1 penalty's gradient is l1 w, not l1 sign(w).",
         lambda given: given.weights),
        ("l1-of-size", "The L1 penalty's gradient is l1 |w|, not l1 sign(w).",
         lambda given: np.abs(given.weights)),
        ("l1-constant", "The L1 penalty's gradient is l1 for every weight, whatever its sign.",
         lambda given: np.ones_like(given.weights)),
        ("l1-of-gradient", "The L1 penalty goes by the gradient's sign, not by the weight's.",
         lambda given: np.sign(given.gradient)),
    ],
}  # fmt: skip


def _past_the_rule(base: float) -> Rows:
    """Return what can be wrong with weight decay that goes past the rule."""
    return [
        ("decay-without-rate", "is not multiplied by the learning rate.",
         {"rate": lambda _: 1.0}),
        ("decay-without-schedule", "is multiplied by the base learning rate, not by that of the "
         "step.", {"rate": lambda _: base}),
        ("decay-rate-twice", "is multiplied by the learning rate twice.",
         {"rate": lambda lr: lr * lr}),
        ("decay-sign", "lets the weights grow: it has the wrong sign.", {"rate": lambda lr: -lr}),
        ("decay-late", "is applied to the updated weights, not to those before the step.",
         {"late": True}),
    ]  # fmt: skip
