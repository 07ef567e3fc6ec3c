"""The complex step: ``g = Im L(θ + i h e) / h`` with h = 1e-200, exact to rounding.

Nothing cancels, because the imaginary parts are so small that no product of two of them exists,
and the real parts never move, so that no kink is crossed (Squire and Trapp 1998; Martins, Sturdza
and Alonso 2003, "The complex-step derivative approximation"). The value at a kink itself is not
tested: there the formula takes the side that the real part is on.

It is computed on the reference's formulas. Many elements at a time: what stands before the layer
of an element is real and computed once; the layer itself is computed for each element, and what
stands behind it for a whole stack of them, the minibatch repeated once for each.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.layers import forward, row_forward
from dptrain.gradcheck.reference.network import Reference, leaf
from dptrain.gradcheck.reference.places import couples_rows
from dptrain.gradcheck.reference.tape import Node
from dptrain.nn.dense import Dense

Array = NDArray[Any]

STEP = 1e-200
STACKED_ELEMENTS = 1 << 20


def complex_step(reference: Reference, parameters: Array, indices: Array) -> Array:
    """Return the derivative by each of some elements, ``(len(indices),)``.

    Args:
        reference: the formulas, of one minibatch.
        parameters: flat ``(size,)`` float64.
        indices: places in the flat vector, ascending.
    """
    if couples_rows(reference.network.row):
        return np.array([_one(reference, parameters, i) for i in indices])
    found = np.empty(len(indices))
    for layer, own in _by_layer(reference, indices):
        found[own] = _of_layer(reference, parameters, layer, indices[own])
    return found


def directional(reference: Reference, parameters: Array, direction: Array) -> float:
    """Return the derivative along a direction ``(size,)``."""
    value, _ = reference.value(parameters + 1j * STEP * direction)
    return float(value.imag / STEP)


def _one(reference: Reference, parameters: Array, index: int) -> float:
    moved = parameters.astype(complex)
    moved[index] += 1j * STEP
    value, _ = reference.value(moved)
    return float(value.imag / STEP)


def _by_layer(reference: Reference, indices: Array) -> Iterator[tuple[int, slice]]:
    """Yield each layer of the row with those of the ascending indices that are its own."""
    for i, tensors in enumerate(reference.network.tensors):
        if tensors:
            edges = np.searchsorted(indices, [tensors[0].start, tensors[-1].stop])
            if edges[0] < edges[1]:
                yield i, slice(int(edges[0]), int(edges[1]))


def _of_layer(reference: Reference, parameters: Array, layer: int, indices: Array) -> Array:
    setting, weights, x = reference.begin(parameters)
    row = reference.network.row
    counts = [len(each.parameters) for each in row]
    before = sum(counts[:layer])
    own = slice(before, before + counts[layer])
    x = row_forward(row[:layer], x, weights[:before], setting)
    here = setting.at(layer, frozen=setting.frozen[own])
    sizes = [len(each.value) for each in x]
    widest = max(math.prod(shape) for shape in reference.network.shapes)
    stack = max(1, STACKED_ELEMENTS // (sum(sizes) * widest))
    found = []
    for start in range(0, len(indices), stack):
        part = indices[start : start + stack]
        moved = _moved(reference, parameters, layer, part, x, weights[own], here)
        stacked = setting.stacked(len(part))
        behind = [[leaf(each.value, None) for each in shards] for shards in weights[own.stop :]]
        y = row_forward(row[layer + 1 :], moved, behind, stacked, layer + 1)
        found.append(_imaginary(reference, y, len(part)))
    return np.concatenate(found)


def _moved(
    reference: Reference,
    parameters: Array,
    layer: int,
    indices: Array,
    x: list[Node],
    weights: Sequence[Sequence[Node]],
    setting: Any,
) -> list[Node]:
    """Return a layer's outputs, stacked, with one element moved in each copy."""
    placed = reference.network.row[layer]
    tensors = reference.network.tensors[layer]
    if isinstance(placed.layer, Dense):
        outputs = forward(placed.layer, x, weights, setting)
        return [
            _moved_dense(each, y, tensors[0], indices) for each, y in zip(x, outputs, strict=True)
        ]
    copies = []
    for index in indices:
        tensor = next(t for t in tensors if t.start <= index < t.stop)
        own = parameters[tensor.start : tensor.stop].astype(complex)
        own[index - tensor.start] += 1j * STEP
        changed = [leaf(own.reshape(tensor.shape), None) for _ in x]
        place = tensors.index(tensor)
        new = [changed if i == place else shards for i, shards in enumerate(weights)]
        copies.append(forward(placed.layer, x, new, setting))
    return [leaf(np.concatenate([copy[s].value for copy in copies]), None) for s in range(len(x))]


def _moved_dense(x: Node, y: Node, tensor: Any, indices: Array) -> Node:
    """Only the column of the moved weight changes: by its input, or by 1 for a bias."""
    rows, units = y.value.shape
    found = np.broadcast_to(y.value, (len(indices), rows, units)).astype(complex)
    at = indices - tensor.start
    inputs, columns = np.divmod(at, units)
    is_weight = at < tensor.stop - tensor.start
    columns = np.where(is_weight, columns, at - (tensor.stop - tensor.start))
    slopes = np.where(is_weight, x.value[:, np.where(is_weight, inputs, 0)], 1.0)
    found[np.arange(len(indices)), :, columns] += 1j * STEP * slopes.T
    return leaf(found.reshape(-1, units), None)


def _imaginary(reference: Reference, outputs: list[Node], copies: int) -> Array:
    total = np.zeros(copies)
    for s, y in enumerate(outputs):
        losses = reference.row_losses(s, y, copies)
        total += losses.value.imag.reshape(copies, -1).sum(axis=1)
    found: Array = total / STEP / sum(reference.batch.sizes)
    return found
