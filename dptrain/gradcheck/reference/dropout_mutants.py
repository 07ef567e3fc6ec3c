"""Wrong dropouts: masks that are scaled wrongly, and masks of other streams."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.gradcheck.reference.layers import Shards, Weights, forward
from dptrain.gradcheck.reference.mutant import Forward, Mutant
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import Node
from dptrain.nn.dropout import Dropout
from dptrain.nn.layer import Layer

Array = NDArray[Any]

COUNTER = 4  # words of the counter of a stream; the step is the last


class Stream(NamedTuple):
    """Where a mask comes from.

    Attributes:
        step: whose it is.
        place: of the layer.
        shard: whose it is.
        seed: of the experiment.
        purpose: of the random numbers.
        word: of the counter, in which the step stands.
    """

    step: int
    place: tuple[int, ...]
    shard: int
    seed: int
    purpose: Purpose = Purpose.DROPOUT
    word: int = COUNTER - 1

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """Return numbers from 0 to 1, float32."""
        key = (*self.place, self.shard)
        philox: Any = generator(self.seed, self.purpose, *key).bit_generator
        state = philox.state
        counter = np.zeros(COUNTER, np.uint64)
        counter[self.word] = self.step
        state["state"]["counter"] = counter
        philox.state = state
        return np.random.Generator(philox).random(shape, dtype=np.float32)


Change = Callable[[Stream, Setting], Stream]


def dropout_mutants(ranks: Sequence[tuple[int, int]]) -> Iterator[Mutant]:
    """Yield the bugs that a dropout could have, whatever the step.

    Args:
        ranks: each rank's range of shards.
    """
    first, kind = _first_of(ranks), "dropout-equal-masks"
    yield _drawn(kind, "all shards draw the same mask", lambda s, _: s._replace(shard=0))
    sentence = "all shards of a rank draw the same mask"
    yield _drawn(kind, sentence, lambda s, _: s._replace(shard=first(s.shard)))
    sentence = "all ranks draw the same masks"
    yield _drawn(kind, sentence, lambda s, _: s._replace(shard=s.shard - first(s.shard)))
    yield Mutant("dropout-scale", "1/(1-p) is missing", _masked(lambda s, _: s, scaled=False))
    yield Mutant("dropout-scale", "1/(1-p) is missing in the backward pass", _unscaled_backward)
    yield Mutant("dropout-other-mask", "the backward pass lets everything through", _scaled_only)


def stream_mutants(
    step: int, steps_per_epoch: int, layers: Mapping[tuple[int, ...], str]
) -> Iterator[Mutant]:
    """Yield the masks that are drawn where part of the key is lost, or another's.

    Args:
        step: counted from 0.
        steps_per_epoch: of the run.
        layers: names of the network's layers, by their place.
    """
    kind = "dropout-stream"
    others = {i: f"those of step {i}" for i in (*range(step - 1, -1, -1), step + 1)}
    epoch, position = divmod(step, steps_per_epoch)
    others |= {epoch: "keyed by the epoch, not the step"} if epoch != step else {}
    others |= {position: "the same in every epoch"} if position != step else {}
    for number, what in others.items():
        sentence = f"its masks in step {step} are {what}"
        yield _drawn(kind, sentence, lambda s, _, n=number: s._replace(step=n))  # type: ignore[misc]
    lost: dict[str, Change] = {
        "the shards are counted within their block": lambda s, b: s._replace(shard=_in_block(s, b)),
        "the layer is missing in the key of its masks": lambda s, _: s._replace(place=()),
        "only the depth of the layer is in the key": lambda s, _: s._replace(place=(len(s.place),)),
        "only the outermost layer is in the key": lambda s, _: s._replace(place=s.place[:1]),
        "only the innermost layer is in the key": lambda s, _: s._replace(place=s.place[-1:]),
        "layer and shard have changed places in the key": _exchanged,
        "the seed is missing in the key of its masks": lambda s, _: s._replace(seed=0),
        "the seed is one more": lambda s, _: s._replace(seed=s.seed + 1),
    }
    for word in range(COUNTER - 1):
        sentence = "the step is in a low word of the counter: masks of different steps overlap"
        lost[f"{sentence} (word {word})"] = lambda s, _, w=word: s._replace(word=w)  # type: ignore[misc]
    for purpose in Purpose:
        what = f"its masks are drawn from the stream of {purpose.name.lower().replace('_', ' ')}"
        if purpose != Purpose.DROPOUT:
            lost[what] = lambda s, _, p=purpose: s._replace(purpose=p)  # type: ignore[misc]
    for place, name in layers.items():
        sentence = f"its masks are drawn as those of {name}"
        lost[sentence] = lambda s, _, p=place: s._replace(place=p)  # type: ignore[misc]
    for sentence, change in lost.items():
        yield _drawn(kind, sentence, change)
    yield Mutant("dropout-missing", "nothing is left out", _everything)
    yield Mutant("dropout-rate", "what should be kept is left out", _complement)
    yield Mutant("dropout-other-mask", "the backward pass draws the mask of the next step", _later)


def _first_of(ranks: Sequence[tuple[int, int]]) -> Callable[[int], int]:
    return lambda shard: next((low for low, high in ranks if low <= shard < high), 0)


def _in_block(stream: Stream, setting: Setting) -> int:
    """Return a shard's index among those with as many rows."""
    sizes = list(setting.sizes)
    return stream.shard - sizes.index(sizes[stream.shard])


def _exchanged(stream: Stream, setting: Setting) -> Stream:  # noqa: ARG001
    place = (stream.shard, *stream.place)
    return stream._replace(place=place[:-1], shard=place[-1])


def _drawn(kind: str, sentence: str, change: Change) -> Mutant:
    return Mutant(kind, sentence, _masked(change, scaled=True))


def _masked(change: Change, *, scaled: bool) -> Forward:
    def run(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
        assert isinstance(layer, Dropout)
        rest = 1 - layer.rate if scaled else 1.0
        return [
            each * each.constant(_kept(layer, setting, s, each, change) / rest)
            for s, each in enumerate(x)
        ]

    return run


def _kept(layer: Dropout, setting: Setting, shard: int, x: Node, change: Change) -> Array:
    stream = change(Stream(setting.step, setting.place, shard, setting.seed), setting)
    found: Array = (stream.uniform(x.shape) >= np.float32(layer.rate)).astype(float)
    return found


def _everything(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    return list(x)


def _complement(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    assert isinstance(layer, Dropout)
    rest = 1 - layer.rate
    return [
        each * each.constant((1 - _kept(layer, setting, s, each, lambda t, _: t)) / rest)
        for s, each in enumerate(x)
    ]


def _later(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    right = forward(layer, x, weights, setting)
    wrong = forward(layer, x, weights, replace(setting, step=setting.step + 1))
    return [Node(y.bounded, (other,), lambda g: [g]) for y, other in zip(right, wrong, strict=True)]


def _unscaled_backward(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    assert isinstance(layer, Dropout)
    y, rest = forward(layer, x, weights, setting), 1 - layer.rate
    return [Node(each.bounded, (each,), lambda g: [g * g.exactly(rest)]) for each in y]


def _scaled_only(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    assert isinstance(layer, Dropout)
    rest, right = 1 / (1 - layer.rate), forward(layer, x, weights, setting)
    return [
        Node(y.bounded, (each,), lambda g: [g * g.exactly(rest)])
        for y, each in zip(right, x, strict=True)
    ]
