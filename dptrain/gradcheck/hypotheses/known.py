"""Known mistakes of how a step's gradient comes about, each as what it changes in the recipe.

Of those that explain as much, the first is named: the more specific stand first.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dptrain.arithmetic.tree import additions
from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.hypotheses.evidence import Array, Evidence, Past, Recipe
from dptrain.gradcheck.hypotheses.scopes import Known, Scope, wrong_tensors
from dptrain.gradcheck.reference.bounded import narrowed
from dptrain.gradcheck.reference.mistaken_masks import Run, mistakes_of_dropout
from dptrain.gradcheck.reference.mistakes import mistakes_of, mistakes_of_loss
from dptrain.gradcheck.reference.network import LOSS, Reference
from dptrain.gradcheck.reference.places import leaves
from dptrain.nn.dropout import Dropout

Rows = Iterator[Known]

MOST_AREAS = 8  # that are tried one by one
FAR = 8  # steps back from where something could be left
ALL_OR_ONE = (Scope.GRADIENT, Scope.RANK)
ON_THE_WAY = (Scope.GRADIENT, Scope.EVERY_RANK, Scope.EVERY_SHARD, Scope.RANK)


def times(factor: float) -> Recipe:
    """Return a recipe in which a part counts so many times."""
    return _sent(lambda part: factor * part)


def counted(kind: str, sentence: str, counts: Array) -> Known:
    """Return a mistake in which every shard counts so many times."""
    return Known(Mistake(kind, sentence, Recipe(counts=counts)))


def factors(e: Evidence) -> Rows:
    """Yield factors of the whole gradient, and means of means."""
    n, count, world = sum(e.sizes), len(e.sizes), len(e.ranks)
    present = sum(rows > 0 for rows in e.rows_of_ranks)
    nominal = max(e.ranks[-1][1], count)
    padded = nominal * max(e.sizes)
    if not e.found[e.scale > 0].any():
        yield Known(
            Mistake("reset-early", "{} is zero everywhere, or no update is applied", times(0.0))
        )
    of_rank = [e.rows_of_ranks[rank] for rank in e.owners]
    for what, parts, rows in (
        ("rank", present, of_rank),
        ("rank, those without rows too,", world, of_rank),
        ("shard", count, e.sizes),
        ("shard", nominal, e.sizes),
    ):
        counts = n / (parts * np.array(rows))
        if not np.allclose(counts, 1, rtol=1e-12):
            sentence = f"a mean of means: every {what} counts alike, however many rows it has"
            yield counted("mean-of-means", sentence, counts)
    known: list[tuple[float, str, str]] = [
        (-1.0, "sign", "has the wrong sign"),
        (float(n), "sum-not-mean", f"is a sum over the {n} rows instead of their mean"),
        (1 / n, "divided-twice", f"is divided by the {n} rows twice"),
        *((float(number), "sum-not-mean", f"is multiplied by the {number} {what}")
          for number, what in ((world, "ranks"), (count, "shards"), (nominal, "shards"))),
        *((1 / number, "divided-twice", f"is divided by the {number} {what} again")
          for number, what in ((world, "ranks"), (count, "shards"), (nominal, "shards"))),
        (1 / world**2, "divided-twice", f"is divided by the {world} ranks twice"),
        (n / padded, "padding-counted",
         f"is divided by {padded}, not by {n}: {padded - n} rows of padding are counted"),
        (n / e.batch_size, "wrong-divisor",
         f"is divided by the {e.batch_size} rows of a full minibatch, not by {n}"),
        *((top / bottom, "wrong-divisor",
           f"is divided by {bottom} instead of {top}: absent ranks or shards are counted")
          for top, bottom in ((present, world), (world, present), (count, nominal),
                              (nominal, count))),
    ]  # fmt: skip
    for factor, kind, what in known:
        if factor != 1:
            yield Known(Mistake(kind, f"{{}} {what}", times(factor)))
    sentence = "every shard's part is the sum over its rows instead of their mean"
    yield counted("sum-not-mean", sentence, np.array(e.sizes))


def single_parts(e: Evidence) -> Rows:
    """Yield parts that are lost, doubled, or taken in place of others."""
    count, n, world = len(e.sizes), sum(e.sizes), len(e.ranks)
    owners = np.array(e.owners)
    with_rows = [rank for rank, rows in enumerate(e.rows_of_ranks) if rows]
    for twice in with_rows:
        for never in with_rows:
            if twice != never:
                counts = 1.0 + (owners == twice) - (owners == never)
                sentence = f"rank {twice}'s part is counted twice, and rank {never}'s never"
                yield counted("shard-doubled", sentence, counts)
    for scope in (Scope.RANK, Scope.SHARD):
        yield Known(Mistake("shard-dropped", "{} is missing", times(0.0)), [scope])
        yield Known(Mistake("shard-doubled", "{} is counted twice", times(2.0)), [scope])
    yield Known(Mistake("sign", "{} has the wrong sign", times(-1.0)), [Scope.RANK])
    for wrong in additions(count):
        own = np.eye(count)
        for each in additions(count):
            own[each.into] += own[each.into if each == wrong else each.other]
        sentence = f"a sum is added to itself, not to that of shard {wrong.other}"
        yield counted("race", f"{sentence} and those behind it: two buffers are one", own[0])
    for rank in with_rows:
        sentence = f"all ranks compute the same rows, those of rank {rank}"
        for factor in (float(world), n / e.rows_of_ranks[rank]):
            yield counted("same-shard", sentence, factor * (owners == rank))
    for shard, size in enumerate(e.sizes):
        sentence = f"all shards are computed from the rows of shard {shard}"
        for factor in (float(count), n / size):
            yield counted("same-shard", sentence, factor * (np.arange(count) == shard))


def of_tensors(e: Evidence) -> Rows:
    """Yield what happens to some tensors and not to others."""
    tensors = wrong_tensors(e)
    only_biases = all(t.name.rpartition(".")[2] in ("b", "beta") for t in tensors)
    missing = "bias-missing" if only_biases else "reset-early"
    known = [
        Mistake(missing, "{} is missing", times(0.0)),
        Mistake("sign", "{} has the wrong sign", times(-1.0)),
        Mistake("tied-twice", "{} is counted twice", times(2.0)),
    ]
    for number, what in ((len(e.ranks), "ranks"), (sum(e.sizes), "rows")):
        sentence = f"{{}} is multiplied by the {number} {what}"
        known.append(Mistake("sum-not-mean", sentence, times(float(number))))
    for each in known:
        yield Known(each, [Scope.TENSORS])
    yield Known(Mistake("shard-dropped", "{} is missing", times(0.0)), [Scope.RANK_TENSORS])
    transposed = _sent(lambda g: _transposed(e, g))
    yield Known(Mistake("transposed", "{} has its matrices transposed", transposed), ALL_OR_ONE)


def _transposed(e: Evidence, g: Array) -> Array:
    found = g.copy()
    for t in e.tensors:
        found[t.start : t.stop] = g[t.start : t.stop].reshape(t.shape).T.reshape(-1)
    return found


def of_the_past(e: Evidence) -> Rows:
    """Yield gradients that hold those of steps before."""
    for back, step in enumerate(reversed(e.past[-FAR:]), 1):
        ago = "the step before" if back == 1 else f"{back} steps before"
        if back == 1:
            for steps, those in ((e.past, "earlier steps"), ([step], ago)):
                sentence = f"{{}} is added to that of {those}: it was not set to zero"
                yield Known(Mistake("not-reset", sentence, _left_by(steps, keep=1)), ALL_OR_ONE)
        sentence = f"{{}} is that of {ago}: it was read before the new one had come"
        yield Known(Mistake("race", sentence, _left_by([step], keep=0)), ALL_OR_ONE)


def _left_by(steps: Sequence[Past], keep: int) -> Recipe:
    """Return a recipe in which a part is what some steps have left, with or without its own."""

    def sent(own: slice, part: Array) -> Array:
        return sum((step.shards[own].sum(axis=0) for step in steps), keep * part)

    return Recipe(sent=sent)


def of_other_weights(e: Evidence) -> Rows:
    """Yield gradients at weights that are stale, drawn anew or rounded."""
    places = {f"drawn with the seed {seed}": drawn for seed, drawn in e.drawn.items()}
    for back, step in enumerate(reversed(e.past[-FAR:]), 1):
        places["of the step before" if back == 1 else f"of {back} steps before"] = step.parameters
    if e.past:
        places["of the very beginning"] = e.past[0].parameters
        places |= dict(_partly_stale(e))
    for what, weights in places.items():
        sentence = f"{{}} is computed with the weights {what}"
        yield Known(Mistake("stale-weights", sentence, Recipe(weights=weights)), ALL_OR_ONE)
    for name, dtype in (("float32", np.float32), ("float16", np.float16)):
        if e.parameters is None:
            return
        rounded = narrowed(e.parameters, dtype)
        if not np.array_equal(rounded, e.parameters) and np.isfinite(rounded).all():
            sentence = f"{{}} is computed with weights rounded to {name}"
            yield Known(Mistake("weights-rounded", sentence, Recipe(weights=rounded)), ALL_OR_ONE)


def _partly_stale(e: Evidence) -> Iterator[tuple[str, Array]]:
    """Yield weights of which parts that travel by themselves are those of the step before."""
    if e.parameters is None or not 1 < len(e.areas) <= MOST_AREAS:
        return
    for area in e.areas:
        mixed, own = e.parameters.copy(), slice(area.start, area.stop)
        mixed[own] = e.past[-1].parameters[own]
        yield f"of the step before in {area.name}", mixed


def of_other_targets(e: Evidence) -> Rows:
    """Yield targets that are not those of their inputs, and rows whose weights are ignored."""
    for what, change in (
        ("rotated by one row", lambda t: np.roll(t, 1, axis=0)),
        ("rotated back by one row", lambda t: np.roll(t, -1, axis=0)),
        ("reversed", lambda t: t[::-1]),
    ):
        sentence = f"{{}} has its targets {what} against the inputs, in every shard"
        yield Known(Mistake("labels-shuffled", sentence, Recipe(targets=change)), ALL_OR_ONE)
    count = len(e.sizes)
    parts = {"": range(count)}
    parts |= {
        f" by rank {i}": range(low, min(high, count)) for i, (low, high) in enumerate(e.ranks)
    }
    parts |= {f" in shard {i}": range(i, i + 1) for i in range(count)}
    for where, shards in parts.items():  # which may depend on each other, as in batch norm
        sentence = f"the weights of the rows are ignored{where}"
        yield Known(Mistake("weights-ignored", sentence, Recipe(unweighed=shards)))


def of_other_steps(e: Evidence) -> Rows:
    """Yield the rows of other steps, at the weights of this one."""
    for step, what in ((e.step - 1, "the step before"), (e.step + 1, "the next step")):
        if step >= 0:
            sentence = f"{{}} is computed with the rows of {what}"
            yield Known(Mistake("rows-of-another-step", sentence, Recipe(step=step)), ALL_OR_ONE)


def on_the_way(e: Evidence) -> Rows:
    """Yield what happens to numbers between those who compute them and the optimizer."""
    for kind, what, change in (
        ("float16", "rounded to float16 on the way", lambda g: narrowed(g, np.float16)),
        ("float32", "rounded to float32 on the way", lambda g: narrowed(g, np.float32)),
        ("bfloat16", "rounded to bfloat16 on the way", _to_bfloat16),
        ("byte-order", "read with its bytes in the wrong order", _swapped),
        ("parameter-order", "put together with its tensors in another order",
         lambda g: _in_order(list(reversed(e.tensors)), g)),
        ("parameter-order", "put together with the tensors of every layer reversed",
         lambda g: _in_order([t for own in layers(e) for t in reversed(own)], g)),
        ("parameter-order", "reversed from end to end", lambda g: g[::-1]),
        ("bucket-offset", "shifted by one element forward", lambda g: np.roll(g, 1)),
        ("bucket-offset", "shifted by one element back", lambda g: np.roll(g, -1)),
    ):  # fmt: skip
        yield Known(Mistake(kind, f"{{}} is {what}", _sent(change)), ON_THE_WAY)


def _sent(change: Callable[[Array], Array]) -> Recipe:
    return Recipe(sent=lambda _, part: change(part))


def _to_bfloat16(g: Array) -> Array:
    bits = g.astype(np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32).astype(float)


def _swapped(g: Array) -> Array:
    return np.asarray(np.nan_to_num(g.astype(float).byteswap(), nan=1e308))


def layers(e: Evidence) -> list[list[Any]]:
    """Return the trained tensors of every layer."""
    found: dict[str, list[Any]] = {}
    for tensor in e.tensors:
        found.setdefault(tensor.name.rpartition(".")[0], []).append(tensor)
    return list(found.values())


def _in_order(tensors: list[Any], g: Array) -> Array:
    """Return a gradient whose trained tensors stand in another order, in the same places."""
    places = np.sort(np.concatenate([np.arange(t.start, t.stop) for t in tensors]))
    found = g.copy()
    found[places] = np.concatenate([g[t.start : t.stop] for t in tensors])
    return found


def of_layers(reference: Reference, ranks: Any, per_epoch: int) -> Rows:
    """Yield wrong formulas of the loss and of layers, the nearest to the loss first.

    Each is tried in every layer alone, and in all layers of its kind at once.

    Args:
        reference: of the step.
        ranks: each rank's range of shards.
        per_epoch: steps of an epoch.
    """
    for kind, sentence, change in mistakes_of_loss(reference.loss):
        swaps = Recipe(swaps={LOSS: change})
        yield Known(Mistake(kind, f"{reference.loss.kind}: {sentence}", swaps))
    row = list(leaves(reference.network.row))
    run = Run(ranks, per_epoch, range(reference.batch.step))
    where = [(name, layer, [place]) for place, name, layer in reversed(row)]
    for each in dict.fromkeys(layer.kind for _, _, layer in row):
        alike = [(place, layer) for place, _, layer in row if layer.kind == each]
        if len(alike) > 1:
            where.append((f"every {each}", alike[0][1], [place for place, _ in alike]))
    for name, layer, places in where:
        if isinstance(layer, Dropout) and layer.rate:
            mistakes, scopes = mistakes_of_dropout(run), list(ALL_OR_ONE)
        else:
            mistakes, scopes = mistakes_of(layer, ranks), [Scope.GRADIENT]
        for kind, sentence, change in mistakes:
            swaps = Recipe(swaps=dict.fromkeys(places, change))
            yield Known(Mistake(kind, f"{name}: {sentence}", swaps), scopes)
