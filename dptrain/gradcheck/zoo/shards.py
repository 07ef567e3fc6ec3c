"""Bugs in which rows a rank computes with, and in how the shards' gradients become one."""

from functools import partial

from dptrain.gradcheck.zoo.bug import SHARED, Bug, Source

_of_loss = partial(
    Source, "nn/passes.py:Pass.output_gradients", "return self.loss.backward(self.rows)"
)
_added = partial(Source, "nn/passes.py:Pass._tree_sums", "self.additions if own")
_reduced = partial(Source, "exchange/slices.py:SliceUpdate.__init__")
_fill = partial(Source, "exchange/rank.py:Rank._fill")
_minibatch = partial(Source, "experiment/job.py:Job.minibatch")
_START, _SEED = "rows = order[block.start : block.start", "self.experiment.seed"
_OWN_ROWS = "sum(b.shards * b.rows for b in self.blocks)"
_RANKS_WITH_ROWS = "min(3, -(-self.rows // 2))"  # as the shards of the habitats are assigned


def handed_in(text: str, rank: int | None = None) -> Source:
    """Change what a rank hands in, before anybody reads it.

    Args:
        text: carried out for every sum ``g`` ``(parameters,)`` of the pass ``found``: the gradients
            of the ``root``-th of the rank's shards and of those added to it.
        rank: which; all unless given.
    """
    changed = text.replace("\n", "\n    ")
    new = (
        "found.backward()\n"
        f"for root in found.roots:\n    g = found.gradients[root]\n    {changed}\n"
        "if ready is not None:\n    ready(0)"
    )
    return Source("exchange/rank.py:Rank.backward", "found.backward(ready)", new, rank)


def _divided_by(rows: str) -> Source:
    """Have the gradient of the loss divided by something else than the minibatch's rows."""
    return _of_loss(f"return self.loss.backward({rows})")


BUGS = (
    Bug("mean-of-means", "A rank divides by its own rows, and the ranks' means are averaged: wrong "
        "where shards are uneven.", _divided_by(f"{_OWN_ROWS} * {_RANKS_WITH_ROWS} or self.rows"),
        "transformers #608"),
    Bug("micro-batch-means", "Every shard's mean is taken, and the means are averaged.",
        _of_loss("for gradient, b in zip(self.loss.backward(self.rows), self.blocks):\n"
                 "    gradient *= self.rows / (min(5, self.rows) * b.rows)\n"
                 "return self.loss.gradients"), "transformers #34191", "mean-of-means"),
    Bug("sum-not-mean", "The sum over the rows is never divided by their number.",
        _divided_by("1"), "DeepSpeed #7773"),
    Bug("divided-twice", "A rank divides what is the mean already by the number of ranks.",
        handed_in("g /= 3"), "lightly #1977"),
    Bug("nominal-world", "Means are averaged over all ranks, also over those that have no rows.",
        _divided_by(f"self.rows * 3 / {_RANKS_WITH_ROWS}"), "pytorch #42577", "wrong-divisor"),
    Bug("shard-dropped", "Rank 1 forgets to add its last shard to what it hands in.",
        _added("self.additions[:-1] if own", 1)),
    Bug("shard-doubled", "Rank 0 adds its last shard twice.",
        _added("self.additions * 2 if own", 0)),
    Bug("twice-and-never", "Whoever reduces adds one rank's sum twice and another's never: "
        "invisible where all ranks have equal gradients.",
        _reduced("for i in each)", "for i in (each[0], additions[0][1], each[2]))"),
        "Horovod's own tests", "shard-doubled", exchange=SHARED),
    Bug("unused-on-one-rank", "Rank 1 hands in zeros for a layer, as if it were unused there.",
        handed_in("g[: self.job.network.tensors[0][-1].stop] = 0", 1), kind="shard-dropped"),
    Bug("not-reset", "The gradient is added to that of the step before.",
        handed_in("kept = vars(self).setdefault('kept', {})\n"
                  "g += kept.get(root, 0)\nkept[root] = g.copy()")),
    Bug("reset-early", "The gradients are set to zero before they are reduced.",
        handed_in("g[:] = 0")),
    Bug("tied-twice", "A tensor that is known under two names is reduced under both.",
        handed_in("tied = self.job.network.tensors[-1][0]\ng[tied.start : tied.stop] *= 2")),
    Bug("arrival-order", "The ranks' sums are added up as they arrive, here rank 0's last.",
        _reduced("additions, row = _plan(remaining_additions(leaves, tuple(edges)), own)",
                 "others = [a.other for a in remaining_additions(leaves, tuple(edges))]\n"
                 "late = [(others[0], other, 0) for other in others[1:]]\n"
                 "additions, row = _plan(late + [(0, other, 0) for other in others[:1]], own)"),
        exchange=SHARED),
    Bug("last-batch-lost", "The last minibatch of an epoch, which is not full, is left out.",
        Source("experiment/job.py:Job.__init__", "-(-len(dataset.train) // self.batch_size)",
               "len(dataset.train) // self.batch_size"),
        "pytorch #25162", "rows-lost", exchange=SHARED),
    Bug("remainder-lost", "What is left when the rows are divided by the shards is left out.",
        _of_loss("for gradient in self.loss.backward(self.rows):\n"
                 "    gradient[:, max(self.rows // 5, 1) :] = 0\nreturn self.loss.gradients"),
        kind="rows-lost"),
    Bug("padding-counted", "Shards are filled up to one size with zero rows, which count in the "
        "mean.", _divided_by("-(-self.rows // 5) * 5"), "pytorch #25162"),
    Bug("padding-repeats", "Shards are filled up to one size with rows that are there already, as "
        "by DistributedSampler.",
        _minibatch("return self._order[1][start : start + self.batch_size]",
                   "rows = self._order[1][start : start + self.batch_size]\n"
                   "return np.concatenate([rows, rows[: -len(rows) % self.shards]])"),
        "pytorch #25162", "padding-counted", exchange=SHARED),
    Bug("same-shard", "Every rank reads the first rows of the minibatch.",
        _fill(_START, "start = block.start - found.blocks[0].start\nrows = order[start : start")),
    Bug("overlapping-shards", "All ranks but the first begin one row too early.", _fill(
        _START, "start = block.start - (found.blocks[0].start > 0)\nrows = order[start : start")),
    Bug("sampler-seed-by-rank", "Every rank shuffles with a seed of its own, so that some rows are "
        "read by two.", tuple(_minibatch(_SEED, f"{_SEED} + {rank}", rank) for rank in (1, 2)),
        kind="overlapping-shards"),
    Bug("labels-shuffled", "The labels are read in another order than the inputs.",
        _fill("if split.grey else None)", "if split.grey else None)\nt[...] = t[::-1].copy()")),
)  # fmt: skip
