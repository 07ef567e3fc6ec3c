"""Wrong masks of dropout: of other streams of random numbers, and scaled otherwise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.reference.layers import Shards, Weights, forward
from dptrain.gradcheck.reference.mistakes import Forward, backwards, instead, multiplied
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.streams import DROPOUT, LAST_WORD, stream_at
from dptrain.nn.dropout import Dropout

Array = NDArray[Any]

EQUAL, STREAM = "dropout-equal-masks", "dropout-stream"
SCALE, RATE = "dropout-scale", "dropout-rate"


class Stream(NamedTuple):
    """Where a mask comes from.

    Attributes:
        seed: of the experiment.
        step: whose it is.
        place: of the layer.
        shard: whose it is.
        word: of the counter, in which the step stands.
    """

    seed: int
    step: int
    place: tuple[int, ...]
    shard: int
    word: int = LAST_WORD

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """Return numbers from 0 to 1, float32."""
        key = (DROPOUT, *self.place, self.shard)
        found = stream_at(self.seed, self.step, *key, word=self.word)
        return found.random(shape, dtype=np.float32)


def kept(uniform: Array, rate: float) -> Array:
    """Return 1 for what is kept, and 0 for what is left out."""
    return (uniform >= np.float32(rate)).astype(float)


def scaled(uniform: Array, rate: float) -> Array:
    """Return what dropout multiplies with."""
    return kept(uniform, rate) / (1 - rate)


class Mask(NamedTuple):
    """How a mask comes about; right unless something is given.

    Attributes:
        stream: which one is drawn in place of the right one, given the shards' sizes as well.
        factor: what is multiplied with, of numbers from 0 to 1 and the rate.
    """

    stream: Callable[[Stream, Sequence[int]], Stream] = lambda stream, _: stream
    factor: Callable[[Array, float], Array] = scaled

    def drawn(
        self, right: Stream, sizes: Sequence[int], shape: tuple[int, ...], rate: float
    ) -> Array:
        """Return what the rows of a shard are multiplied with."""
        return self.factor(self.stream(right, sizes).uniform(shape), rate)


class Run(NamedTuple):
    """What of a run its masks may depend on.

    Attributes:
        ranks: each rank's range of shards.
        per_epoch: its steps in an epoch.
        steps: others, whose masks a step may draw by mistake.
    """

    ranks: Sequence[tuple[int, int]]
    per_epoch: int
    steps: Sequence[int] = (0,)


def wrong_masks(run: Run) -> Iterator[Mistake[Mask]]:
    """Yield what may be wrong with masks, as one sees it in the forward pass."""

    def first(shard: int) -> int:
        return next((low for low, high in run.ranks if low <= shard < high), 0)

    for kind, sentence, factor in (
        (SCALE, "1/(1-p) is missing", kept),
        (SCALE, "1/(1-p) is taken twice", lambda u, p: scaled(u, p) / (1 - p)),
        (SCALE, "what is kept is divided by p, not by 1-p", lambda u, p: kept(u, p) / p),
        (RATE, "p is the probability to be kept", lambda u, p: kept(u, 1 - p) / p),
        (RATE, "what should be kept is left out", lambda u, p: (1 - kept(u, p)) / (1 - p)),
        ("dropout-missing", "nothing is left out", lambda u, _: np.ones(u.shape)),
    ):
        yield Mistake(kind, sentence, Mask(factor=factor))
    streams: list[tuple[str, str, Callable[[Stream, Sequence[int]], Stream]]] = [
        (EQUAL, "all shards draw the same mask", _with(shard=0)),
        (EQUAL, "all shards of a rank draw the same mask",
         lambda s, _: s._replace(shard=first(s.shard))),
        (EQUAL, "all ranks draw the same masks",
         lambda s, _: s._replace(shard=s.shard - first(s.shard))),
        *((STREAM, f"its masks are those of step {step}", _with(step=step)) for step in run.steps),
        (STREAM, "its masks are keyed by the epoch, not the step",
         lambda s, _: s._replace(step=s.step // run.per_epoch)),
        (STREAM, "its masks are the same in every epoch",
         lambda s, _: s._replace(step=s.step % run.per_epoch)),
        (STREAM, "its masks are those of the step after", lambda s, _: s._replace(step=s.step + 1)),
        (STREAM, "the shards are counted within their block",
         lambda s, sizes: s._replace(shard=s.shard - list(sizes).index(sizes[s.shard]))),
        (STREAM, "the layer is missing in the key of its masks", _with(place=())),
        (STREAM, "layer and shard have changed places in the key of its masks",
         lambda s, _: s._replace(place=(s.shard, *s.place[:-1]), shard=s.place[-1])),
        (STREAM, "the seed is missing in the key of its masks", _with(seed=0)),
        *((STREAM, f"the step is in word {word} of the counter: masks of steps overlap",
           _with(word=word)) for word in range(LAST_WORD)),
    ]  # fmt: skip
    for kind, sentence, stream in streams:
        yield Mistake(kind, sentence, Mask(stream))


def _with(**fields: Any) -> Callable[[Stream, Sequence[int]], Stream]:
    return lambda stream, _: stream._replace(**fields)


def mistakes_of_dropout(run: Run) -> Iterator[Mistake[Forward]]:
    """Yield what may be wrong with a dropout, in the forward pass or backwards."""
    for kind, sentence, mask in wrong_masks(run):
        yield Mistake(kind, sentence, _masked(mask))
    sentence = "1/(1-p) is missing in the backward pass"
    bare = backwards(lambda _, y, layer: multiplied(y, 1 - layer.rate))
    yield Mistake(SCALE, sentence, bare)
    sentence = "the backward pass lets everything through"
    open_ = backwards(lambda x, _, layer: multiplied(x, 1 / (1 - layer.rate)))
    yield Mistake("dropout-other-mask", sentence, open_)
    sentence = "the backward pass draws the mask of the next step"
    yield Mistake("dropout-other-mask", sentence, _mask_of_next_step)


def _masked(mask: Mask) -> Forward:
    def run(layer: Dropout, x: Shards, _: Weights, setting: Setting) -> Shards:
        rights = [Stream(setting.seed, setting.step, setting.place, s) for s in range(len(x))]
        return [
            each * each.constant(mask.drawn(right, setting.sizes, each.shape, layer.rate))
            for each, right in zip(x, rights, strict=True)
        ]

    return run


def _mask_of_next_step(layer: Dropout, x: Shards, weights: Weights, setting: Setting) -> Shards:
    later = replace(setting, step=setting.step + 1)
    y = (forward(layer, x, weights, each) for each in (setting, later))
    return list(map(instead, *y))
