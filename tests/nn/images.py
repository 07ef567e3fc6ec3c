"""Layers over images, for the tests of convolution and pooling: what is drawn, and how."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.nn.convolution import Conv2D
from dptrain.nn.layer import Operation
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from tests.nn.build import bound

Array = NDArray[Any]
ImageLayer = Conv2D | MaxPool2D | AvgPool2D


def extents(least: int, most: int) -> st.SearchStrategy[Any]:
    """One number, or a pair."""
    one = st.integers(least, most)
    return st.one_of(one, st.tuples(one, one))


def pair(extent: Any) -> tuple[int, int]:
    """Return both numbers."""
    return (extent, extent) if isinstance(extent, int) else extent


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Conv2D, tuple[int, ...]]:
    """A convolution, and a sample shape that it takes; one channel is the third axis or none."""
    layer = Conv2D(
        draw(st.integers(1, 4)),
        draw(extents(1, 4)),
        draw(extents(1, 3)),
        draw(extents(0, 2)),
    )
    least = [max(1, k - 2 * p) for k, p in zip(pair(layer.size), pair(layer.padding), strict=True)]
    return layer, draw(shapes(least))


@st.composite
def poolings(draw: st.DrawFn) -> tuple[MaxPool2D | AvgPool2D, tuple[int, ...]]:
    """A pooling layer, and a sample shape that it takes."""
    kinds: list[type[MaxPool2D] | type[AvgPool2D]] = [MaxPool2D, AvgPool2D]
    layer = draw(st.sampled_from(kinds))(
        draw(extents(1, 3)), draw(st.one_of(st.none(), extents(1, 4)))
    )
    return layer, draw(shapes(pair(layer.size)))


def shapes(least: Any) -> st.SearchStrategy[tuple[int, ...]]:
    """Images at least so high and wide, and up to 4 more."""
    sides = st.tuples(*(st.integers(n, n + 4) for n in least))
    channels = st.one_of(st.just(()), st.tuples(st.one_of(st.integers(1, 4), st.integers(15, 18))))
    return st.builds(lambda image, rest: image + rest, sides, channels)


class Trial:
    """A layer bound to one or two blocks of random images, after a pass forth and back."""

    def __init__(
        self,
        layer: ImageLayer,
        shape: tuple[int, ...],
        dtype: str = "float64",
        blocks: tuple[tuple[int, int], ...] = ((2, 3), (1, 2)),
        seed: int = 0,
        *,
        whole: bool = False,
    ) -> None:
        """Compute.

        Args:
            layer: any layer over images.
            shape: of a sample.
            dtype: of all arrays.
            blocks: ``(shards, rows)`` of each.
            seed: of the numbers.
            whole: whether all are small whole numbers, with which sums are exact, and ties many.
        """
        random = np.random.default_rng(seed)

        def numbers(*size: int) -> Array:
            found = random.integers(-2, 3, size) if whole else random.standard_normal(size)
            return found.astype(dtype)

        self.layer = layer
        self.x = [numbers(*block, *shape) for block in blocks]
        before = [x.copy() for x in self.x]
        size = sum(int(np.prod(each.shape)) for each in layer.parameters(shape))
        self.weights = numbers(size)
        self.operation: Operation = bound(layer, *self.x, weights=self.weights)
        self.operation.forward()
        self.y = [y.copy() for y in self.operation.outputs]
        self.dy = [numbers(*y.shape) for y in self.y]
        self.dx = self.operation.backward([dy.copy() for dy in self.dy])
        for x, kept in zip(self.x, before, strict=True):
            np.testing.assert_array_equal(x, kept)

    @property
    def kernel(self) -> tuple[Array, Array]:
        """``W`` and ``b`` of a convolution."""
        assert isinstance(self.layer, Conv2D)
        filters = self.layer.filters
        channels = 1 if self.x[0].ndim == 4 else self.x[0].shape[4]
        W = self.weights[:-filters].reshape(*pair(self.layer.size), channels, filters)
        return W, self.weights[-filters:]
