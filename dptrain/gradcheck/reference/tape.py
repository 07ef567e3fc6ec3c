"""Reverse differentiation of a computation with bounded arrays, itself with bounds.

A `Node` remembers which nodes it was computed from, and how a gradient of it becomes gradients of
them. `backward` walks the nodes once, the last first. Every gradient is a `Bounded` too: the bound
covers both passes of whoever computes the same sums and products in the arithmetic judged, in
whatever order the terms of a sum are added.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.bounded import Bounded

Array = NDArray[Any]
Pull = Callable[[Bounded], Sequence[Bounded]]


class Node:
    """A value of the computation.

    Attributes:
        bounded: the value.
        gradient: of the result, once `backward` has been there.
    """

    def __init__(self, bounded: Bounded, parents: Sequence["Node"] = (), pull: Pull | None = None):
        self.bounded = bounded
        self.parents = parents
        self.pull = pull
        self.gradient: Bounded | None = None

    @property
    def value(self) -> Array:
        """The numbers alone."""
        return self.bounded.value

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.bounded.value.shape

    def constant(self, value: Any) -> "Node":
        """Return numbers that nothing is differentiated by."""
        return Node(self.bounded.exactly(value))

    def __add__(self, other: "Node") -> "Node":
        a, b = self.bounded, other.bounded
        return Node(a + b, (self, other), lambda g: (g.summed_to(a.shape), g.summed_to(b.shape)))

    def __sub__(self, other: "Node") -> "Node":
        a, b = self.bounded, other.bounded
        return Node(a - b, (self, other), lambda g: (g.summed_to(a.shape), -g.summed_to(b.shape)))

    def __mul__(self, other: "Node") -> "Node":
        a, b = self.bounded, other.bounded

        def pull(g: Bounded) -> Sequence[Bounded]:
            return (g * b).summed_to(a.shape), (g * a).summed_to(b.shape)

        return Node(a * b, (self, other), pull)

    def __truediv__(self, other: "Node") -> "Node":
        a, b = self.bounded, other.bounded
        quotient = a / b

        def pull(g: Bounded) -> Sequence[Bounded]:
            return (g / b).summed_to(a.shape), (-(g * quotient) / b).summed_to(b.shape)

        return Node(quotient, (self, other), pull)

    def __matmul__(self, other: "Node") -> "Node":
        a, b = self.bounded, other.bounded
        return Node(a @ b, (self, other), lambda g: (g @ b.transposed, a.transposed @ g))

    def sum(self, axis: int | Sequence[int], *, keepdims: bool = False) -> "Node":
        """Return the sum over axes."""
        shape = self.shape
        axes = {i % len(shape) for i in ((axis,) if isinstance(axis, int) else axis)}
        kept = tuple(1 if i in axes else n for i, n in enumerate(shape))

        def pull(g: Bounded) -> Sequence[Bounded]:
            return [g.reshape(*kept).moved(lambda a: np.broadcast_to(a, shape))]

        return Node(self.bounded.sum(tuple(axes), keepdims=keepdims), (self,), pull)

    def sqrt(self) -> "Node":
        """Return the square root."""
        root = self.bounded.sqrt()
        two = self.bounded.exactly(2.0)
        return Node(root, (self,), lambda g: [g / (root * two)])

    def exp(self) -> "Node":
        """Return e to the power of the elements."""
        power = self.bounded.exp()
        return Node(power, (self,), lambda g: [g * power])

    def log(self) -> "Node":
        """Return the natural logarithm."""
        x = self.bounded
        return Node(x.log(), (self,), lambda g: [g / x])

    def reshape(self, *shape: int) -> "Node":
        """Return the array in another shape."""
        own = self.shape
        return Node(self.bounded.reshape(*shape), (self,), lambda g: [g.reshape(*own)])

    def swapped(self) -> "Node":
        """Return the array with its last two axes swapped."""
        return Node(self.bounded.transposed, (self,), lambda g: [g.transposed])

    def gathered(self, index: Array) -> "Node":
        """Return ``x[:, index]`` with zeros where the index is -1; axis 1 may be read repeatedly.

        Args:
            index: whole numbers of any shape, into axis 1.
        """
        readers = _readers(index, self.shape[1])

        def read(a: Array) -> Array:
            return np.concatenate([a, np.zeros_like(a[:, :1])], axis=1)[:, index]

        def pull(g: Bounded) -> Sequence[Bounded]:
            """Return for each place of axis 1 the sum of what its readers' gradients are."""
            samples, rest = g.shape[0], g.shape[1 + index.ndim :]
            return [Node(g.reshape(samples, -1, *rest)).gathered(readers).bounded.sum(2)]

        return Node(self.bounded.moved(read), (self,), pull)

    def at(self, index: Array) -> "Node":
        """Return along the last axis the element at ``index``, whose shape lacks that axis."""
        return self._chosen(index, np.zeros(self.shape))

    def largest(self) -> tuple["Node", Array]:
        """Return along the last axis the element with the largest real part, and which it is.

        Of equal ones it is the first. Others that lie within the error might be it as well: the
        gradient of all of them is in doubt by as much as there is. Equal ones are no such rivals:
        they come of equal inputs, for which it makes no difference who is chosen.
        """
        x = self.bounded
        index = x.value.real.argmax(axis=-1)
        doubtful = np.zeros(self.shape)
        if x.error is not None:
            place = index[..., np.newaxis]
            reach = x.error + np.take_along_axis(x.error, place, -1)
            behind = np.take_along_axis(x.value, place, -1) - x.value
            rivals = (behind <= reach) & (behind > 0)
            first = np.arange(x.shape[-1]) == place
            doubtful = (rivals | (first & rivals.any(-1, keepdims=True))).astype(float)
        found = self._chosen(index, doubtful)
        if x.error is not None:
            found.bounded = x.like(found.value, x.error.max(axis=-1))
        return found, index

    def _chosen(self, index: Array, doubtful: Array) -> "Node":
        x = self.bounded
        place = index[..., np.newaxis]

        def pull(g: Bounded) -> Sequence[Bounded]:
            spread = np.zeros(x.shape, g.value.dtype)
            np.put_along_axis(spread, place, g.value[..., np.newaxis], -1)
            if g.error is None:
                return [g.like(spread, None)]
            unsure = np.zeros(x.shape)
            np.put_along_axis(unsure, place, g.error[..., np.newaxis], -1)
            size = (np.abs(g.value) + g.error)[..., np.newaxis]
            return [g.like(spread, np.maximum(unsure, doubtful * size))]

        taken = x.moved(lambda a: np.take_along_axis(a, place, -1)[..., 0])
        return Node(taken, (self,), pull)

    def function(self, value: Bounded, slope: Bounded) -> "Node":
        """Return a function of each element, given with its derivative."""
        return Node(value, (self,), lambda g: [g * slope])


def backward(result: Node) -> None:
    """Set ``gradient`` of every node from which the scalar ``result`` was computed."""
    result.gradient = result.bounded.exactly(np.ones(result.shape))
    for node in reversed(_in_order(result)):
        if node.pull is None or node.gradient is None:
            continue
        for parent, share in zip(node.parents, node.pull(node.gradient), strict=True):
            parent.gradient = share if parent.gradient is None else parent.gradient + share


def _in_order(result: Node) -> list[Node]:
    """Return the nodes, each behind those that it was computed from."""
    found: list[Node] = []
    seen: set[int] = set()
    stack = [(result, False)]
    while stack:
        node, done = stack.pop()
        if done:
            found.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(parent, False) for parent in node.parents]
    return found


def _readers(index: Array, count: int) -> Array:
    """Return for each of ``count`` places who reads it, ``(count, most)``, filled up with -1."""
    flat = index.reshape(-1)
    order = np.argsort(flat, kind="stable")
    order = order[np.searchsorted(flat[order], 0) :]
    read = flat[order]
    turn = np.arange(len(read)) - np.searchsorted(read, read)
    readers = np.full((count, int(turn.max(initial=0)) + 1), -1)
    readers[read, turn] = order
    return readers
