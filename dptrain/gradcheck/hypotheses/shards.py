"""Bugs in how shards are weighted: ``g = Σ α_s g_s`` with an α that is not 1."""

from collections.abc import Iterator

import numpy as np

from dptrain.arithmetic.tree import additions
from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis


def hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """Yield what each bug would lead to, the most specific first."""
    e = evidence
    n, count, world = sum(e.sizes), len(e.sizes), len(e.ranks)
    ones = np.ones(count)
    if not e.found[e.scale > 0].any():
        yield Hypothesis("reset-early", "the gradient is zero everywhere", e.weighted(0 * ones))
    yield from _means(e, n, count, world)
    for factor, kind, sentence in _factors(e, n, count, world):
        yield Hypothesis(kind, sentence, e.weighted(factor * ones))
    sentence = "every shard's part is the sum over its rows instead of their mean"
    yield Hypothesis("sum-not-mean", sentence, e.weighted(np.array(e.sizes, float)))
    yield from _one_for_another(e)
    yield from _single_ranks(e)
    yield from _aliased(e)
    yield from _single_shards(e)
    yield from _repeated(e, world)
    yield from _nobodys(e)
    yield from _partial_sums(e)


def _means(e: Evidence, n: int, count: int, world: int) -> Iterator[Hypothesis]:
    ranks = [r for r in e.rows_of_ranks if r]
    for parts, what in ((len(ranks), "rank"), (world, "rank, those without rows too")):
        weights = [n / (parts * (_rows_with(e, s) or n)) for s in range(count)]
        if len(set(ranks)) > 1 or parts != len(ranks):
            sentence = f"a mean of means: every {what} counts alike, however many rows it has"
            yield Hypothesis("mean-of-means", sentence, e.weighted(np.array(weights)))
    for parts in {count, max(e.ranks[-1][1], count)}:
        weights = [n / (parts * size) for size in e.sizes]
        if len(set(e.sizes)) > 1 or parts != count:
            sentence = "a mean of means: every shard counts alike, however many rows it has"
            yield Hypothesis("mean-of-means", sentence, e.weighted(np.array(weights)))


def _rows_with(e: Evidence, shard: int) -> int:
    """Return how many rows the rank of a shard has."""
    rank = e.rank_of(shard)
    return 0 if rank is None else e.rows_of_ranks[rank]


def _factors(e: Evidence, n: int, count: int, world: int) -> Iterator[tuple[float, str, str]]:
    present = sum(rows > 0 for rows in e.rows_of_ranks)
    nominal = max(e.ranks[-1][1], count)  # less where ranks do not own all shards, a bug itself
    padded = nominal * max(e.sizes)
    yield -1.0, "sign", "the gradient has the wrong sign"
    yield float(n), "sum-not-mean", f"a sum over the {n} rows instead of their mean"
    yield 1 / n, "divided-twice", f"the gradient is divided by the {n} rows twice"
    for number, what in ((world, "ranks"), (count, "shards"), (nominal, "shards")):
        yield float(number), "sum-not-mean", f"the gradient is multiplied by the {number} {what}"
        yield 1 / number, "divided-twice", f"the gradient is divided by the {number} {what} again"
    yield 1 / world**2, "divided-twice", f"the gradient is divided by the {world} ranks twice"
    if padded != n:
        sentence = f"{padded - n} rows of padding are counted: divided by {padded}, not {n}"
        yield n / padded, "padding-counted", sentence
    if e.batch_size != n:
        sentence = f"divided by the {e.batch_size} rows of a full minibatch, not by {n}"
        yield n / e.batch_size, "wrong-divisor", sentence
    for top, bottom in ((present, world), (world, present), (count, nominal), (nominal, count)):
        if top != bottom:
            sentence = f"divided by {bottom} instead of {top}: absent ranks or shards are counted"
            yield top / bottom, "wrong-divisor", sentence


def _single_ranks(e: Evidence) -> Iterator[Hypothesis]:
    for rank, (low, high) in enumerate(e.ranks):
        if not e.rows_of_ranks[rank]:
            continue
        for factor, kind, what in (
            (0.0, "shard-dropped", "is missing"),
            (2.0, "shard-doubled", "is counted twice"),
            (-1.0, "sign", "has the wrong sign"),
        ):
            weights = np.ones(len(e.sizes))
            weights[low:high] = factor
            which = _named(range(low, min(high, len(e.sizes))))
            yield Hypothesis(kind, f"rank {rank}'s part ({which}) {what}", e.weighted(weights))


def _single_shards(e: Evidence) -> Iterator[Hypothesis]:
    for shard in range(len(e.sizes)):
        for factor, kind, what in (
            (0.0, "shard-dropped", "is missing"),
            (2.0, "shard-doubled", "is counted twice"),
        ):
            weights = np.ones(len(e.sizes))
            weights[shard] = factor
            sentence = f"shard {shard} ({e.owner(shard)}) {what}"
            yield Hypothesis(kind, sentence, e.weighted(weights))


def _one_for_another(e: Evidence) -> Iterator[Hypothesis]:
    """One rank's part is counted twice, another's never."""
    for twice, (low, high) in enumerate(e.ranks):
        for never, (begin, end) in enumerate(e.ranks):
            if twice != never and e.rows_of_ranks[twice] and e.rows_of_ranks[never]:
                weights = np.ones(len(e.sizes))
                weights[low:high], weights[begin:end] = 2, 0
                sentence = f"rank {twice}'s part is counted twice, and rank {never}'s never"
                yield Hypothesis("shard-doubled", sentence, e.weighted(weights))


def _aliased(e: Evidence) -> Iterator[Hypothesis]:
    """An addition of the tree adds a sum to itself: its output aliases its input."""
    count = len(e.sizes)
    for wrong in additions(count):
        own = np.eye(count)
        for addition in additions(count):
            other = addition.into if addition == wrong else addition.other
            own[addition.into] = own[addition.into] + own[other]
        last = range(wrong.other, wrong.last)
        sentence = f"a sum is added to itself, not to that of {_named(last)}: two buffers are one"
        yield Hypothesis("race", sentence, e.weighted(own[0]))


def _repeated(e: Evidence, world: int) -> Iterator[Hypothesis]:
    """All ranks compute what one of them, or one shard, should."""
    count, n = len(e.sizes), sum(e.sizes)
    sentence = "all ranks compute the same rows, those of rank {}"
    for rank, (low, high) in enumerate(e.ranks):
        rows = e.rows_of_ranks[rank]
        if not rows:
            continue
        for factor in (float(world), n / rows):
            weights = np.zeros(count)
            weights[low:high] = factor
            yield Hypothesis("same-shard", sentence.format(rank), e.weighted(weights))
    for shard, size in enumerate(e.sizes):
        for factor in {float(count), n / size}:
            weights = np.zeros(count)
            weights[shard] = factor
            yield Hypothesis(
                "same-shard",
                f"all shards are computed from the rows of shard {shard}",
                e.weighted(weights),
            )


def _nobodys(e: Evidence) -> Iterator[Hypothesis]:
    lost = [s for s in range(len(e.sizes)) if e.rank_of(s) is None]
    if lost:
        weights = np.ones(len(e.sizes))
        weights[lost] = 0
        sentence = f"shards {', '.join(map(str, lost))} belong to no rank: they are missing"
        yield Hypothesis("shard-dropped", sentence, e.weighted(weights))


def _partial_sums(e: Evidence) -> Iterator[Hypothesis]:
    """A sum on the way to the root of the tree, or of some ranks only, is taken for the whole."""
    count = len(e.sizes)
    spans = [(a.into, a.last) for a in additions(count)]
    spans += [(low, min(high, count)) for low, high in e.ranks]
    spans += [(s, s + 1) for s in range(count)]
    for low, high in dict.fromkeys(spans):
        if low < high and high - low < count:
            weights = np.zeros(count)
            weights[low:high] = 1
            sentence = f"it is only that of {_named(range(low, high))}, a part of the sum"
            yield Hypothesis("shard-dropped", sentence, e.weighted(weights))


def _named(shards: range) -> str:
    listed = ", ".join(map(str, shards))
    return f"shard{'s' if len(shards) != 1 else ''} {listed}"
