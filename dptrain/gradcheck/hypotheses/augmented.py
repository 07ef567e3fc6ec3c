"""Bugs in which draws the augmentation of each shard takes."""

from collections.abc import Iterator, Sequence

from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis


def hypotheses(e: Evidence) -> Iterator[Hypothesis]:
    """Yield what each bug would lead to, on all ranks or on one."""
    if e.augmented is None:
        return
    for kind, what, step, draws in _mistakes(e):
        shards = e.augmented(step, draws)
        yield Hypothesis(kind, f"the inputs are augmented {what}", shards.sum(axis=0))
        for rank, (low, high) in enumerate(e.ranks):
            part = (shards[low:high] - e.shards[low:high]).sum(axis=0)
            yield Hypothesis(kind, f"rank {rank}'s inputs are augmented {what}", e.right + part)


def _mistakes(e: Evidence) -> Iterator[tuple[str, str, int, Sequence[int] | None]]:
    """Yield kinds of mistakes, with the step and the shards whose draws are taken."""
    count = len(e.sizes)
    own = range(count)
    kind = "augmentation-stream"
    first = [next((low for low, high in e.ranks if low <= s < high), 0) for s in own]
    what = "with the draws of other shards: shards are counted within their rank"
    yield kind, what, e.step, [s - f for s, f in zip(own, first, strict=True)]
    yield kind, "with the draws of shard 0, all shards alike", e.step, [0] * count
    sizes = list(e.sizes)
    blocks = [s - sizes.index(sizes[s]) for s in own]
    what = "with the draws of other shards: shards are counted within their block"
    yield kind, what, e.step, blocks
    yield kind, "with the draws of their rank's first shard", e.step, first
    yield "augmentation-missing", "not at all", e.step, None
    for step in dict.fromkeys([0, e.step - 1, e.step + 1, *range(e.step)]):
        if step >= 0 and step != e.step:
            yield kind, f"with the draws of step {step}", step, list(own)
