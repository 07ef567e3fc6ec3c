"""How the flat vector travels: in buckets of whole layers, the last layers first.

A layer's gradient is sent as soon as its backward pass is done, while the earlier layers are still
being computed; but a message has its price, so neighbouring small layers share one. The buckets
follow from the network alone, and cutting the vector up changes no bit.
"""

from typing import NamedTuple

from dptrain.nn.network import Layout

# Below this a message costs more than its bytes, and copying less than giving a buffer back.
BUCKET_BYTES = 256 * 1024


class Bucket(NamedTuple):
    """A span of the flat vector.

    Attributes:
        layer: the layer whose backward pass completes the bucket.
        start: first element.
        stop: behind the last element.
    """

    layer: int
    start: int
    stop: int


def buckets(network: Layout, itemsize: int) -> tuple[Bucket, ...]:
    """Return the buckets in the order in which the backward pass completes them."""
    found: list[Bucket] = []
    stop = network.size
    for layer in range(len(network.tensors) - 1, -1, -1):
        tensors = network.tensors[layer]
        if not tensors:
            continue
        start = tensors[0].start
        if (stop - start) * itemsize >= BUCKET_BYTES or start == 0:
            found.append(Bucket(layer, start, stop))
            stop = start
    return tuple(found)
