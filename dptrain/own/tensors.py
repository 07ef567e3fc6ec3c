"""The tensors of a network of the user's own: which are frozen, and to which weight decay applies.

A key and a shape are all that is known of them. Vectors are biases. So are rows ``(1, n)`` and
columns ``(n, 1)`` that are called ``b``, ``b1``, ``fc1.bias``, ``beta`` or ``gamma``, and rows
``(1, n)`` right behind a matrix ``(k, n)`` that are not called ``W`` or ``weight``. A matrix
``(n, 1)``, such as that of an output layer with one unit, is a weight by any other name.

The tensors of the state (`dptrain.own.state`) are not trained: what stands in their gradient's
place takes their place.
"""

import math
import re
from collections.abc import Mapping, Sequence

from dptrain.errors import UsageError, suggestion
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Tensor
from dptrain.own.state import PREFIX

Shape = tuple[int, ...]

_BIAS = re.compile(r"(.*[._])?(b|bias|beta|gamma)[0-9]*", re.IGNORECASE)
_WEIGHT = re.compile(r"(.*[._])?(W|weight|kernel)[0-9]*")


def own_tensors(
    shapes: Mapping[str, Shape],
    freeze: Sequence[str] = (),
    decayed: Sequence[str] | None = None,
) -> list[tuple[Tensor, ...]]:
    """Return the tensors in a flat vector, each a group of its own.

    Args:
        shapes: by name, of the weights and of the state.
        freeze: names of those that stay as they are, whatever gradient they have.
        decayed: names of those to which weight decay and L1 apply; by default the weights.

    Raises:
        UsageError: there is no tensor of such a name, or nothing is left to train.
    """
    params = [name for name in shapes if not name.startswith(PREFIX)]
    for setting, names in (("freeze", freeze), ("decayed", decayed or ())):
        for name in names:
            if name not in params:
                near = suggestion(name, params) or ";"
                raise UsageError(
                    f"{setting}={name!r} is not among the network's params{near} choose from: "
                    f"{', '.join(params)}"
                )
    if set(freeze) == set(params):
        raise UsageError(f"freeze={list(freeze)!r} leaves nothing to train; freeze fewer tensors")
    own = {name: shapes[name] for name in params}
    weights = _weights(own) if decayed is None else decayed
    found: list[tuple[Tensor, ...]] = []
    start = 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        # the constructor has made the initial values; nothing is drawn here
        tensor = Tensor(name, shape, start, stop, name in weights, Zeros(), (0, 0))
        average = None if name in own else 1.0
        found.append((tensor._replace(average=average, frozen=name in freeze),))
        start = stop
    return found


def _weights(shapes: Mapping[str, Shape]) -> list[str]:
    before: Shape = ()
    found = []
    for name, shape in shapes.items():
        if not _is_bias(name, shape, before):
            found.append(name)
        before = shape
    return found


def _is_bias(name: str, shape: Shape, before: Shape) -> bool:
    if len(shape) < 2:
        return True
    if sum(n > 1 for n in shape) > 1 or _WEIGHT.fullmatch(name):
        return False
    behind = len(shape) == len(before) == 2 and shape == (1, before[1]) and before[0] > 1
    return behind or _BIAS.fullmatch(name) is not None
