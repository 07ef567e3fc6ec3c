"""What a wrong layer of the reference is."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dptrain.gradcheck.reference.layers import Shards, Weights
from dptrain.gradcheck.reference.setting import Setting
from dptrain.nn.layer import Layer

Forward = Callable[[Layer, Shards, Weights, Setting], Shards]


class Mutant(NamedTuple):
    """A layer with a bug.

    Attributes:
        kind: of the bug.
        sentence: what is wrong, about "the layer".
        forward: in place of the reference's.
    """

    kind: str
    sentence: str
    forward: Any
