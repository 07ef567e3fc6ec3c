"""Layer normalisation."""

from typing import Annotated

import numpy as np
from msgspec import Meta

from dptrain.errors import UsageError
from dptrain.nn.calls import Call, call
from dptrain.nn.initializers import Ones, Zeros
from dptrain.nn.layer import Array, Blocks, Layer, Operation, Parameter, Shape, Site


class LayerNorm(Layer, frozen=True, tag="layernorm"):
    """``y = γ (x - mean) / sqrt(var + ε) + β``, over the last axis of each position of each row.

    Ba, Kiros and Hinton 2016, "Layer normalization". Parameters: ``gamma`` and ``beta``, one for
    each feature.
    """

    epsilon: Annotated[float, Meta(gt=0)] = 1e-5

    def __post_init__(self) -> None:
        """Refuse an epsilon that cannot guard a division."""
        if not self.epsilon > 0:
            raise UsageError(f"a layer norm needs an epsilon above 0, not {self.epsilon}")

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:
        """Return ``gamma`` and ``beta``."""
        shape = input_shape[-1:]
        fans = (shape[0], shape[0])
        return (
            Parameter("gamma", shape, Ones(), fans, decays=False),
            Parameter("beta", shape, Zeros(), fans, decays=False),
        )

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return LayerNormOperation(site, self.epsilon)


class LayerNormOperation(Operation):
    """Everything over views ``(shards, positions, features)``."""

    def __init__(self, site: Site, epsilon: float) -> None:
        self.site = site
        self.gamma, self.beta = site.weights
        self.epsilon = epsilon
        self.outputs = site.inputs if site.overwrites else site.like(site.inputs)
        self.normal = [flat_features(each) for each in site.like(site.inputs)]
        self.inverse = [self._like_means(each) for each in self.normal]
        self.forward_calls = [
            each for i in range(len(site.inputs)) for each in self._block_calls(i)
        ]

    def _like_means(self, x: Array) -> Array:
        return self.site.workspace.empty((*x.shape[:2], 1), x.dtype)

    def _block_calls(self, i: int) -> list[Call]:
        x, y = flat_features(self.site.inputs[i]), flat_features(self.outputs[i])
        normal, inverse = self.normal[i], self.inverse[i]
        features, epsilon = x.dtype.type(x.shape[-1]), x.dtype.type(self.epsilon)
        return [
            call(np.add.reduce, x, -1, None, inverse, keepdims=True),
            call(np.divide, inverse, features, inverse),
            call(np.subtract, x, inverse, normal),
            call(np.multiply, normal, normal, y),
            call(np.add.reduce, y, -1, None, inverse, keepdims=True),
            call(np.divide, inverse, features, inverse),
            call(np.add, inverse, epsilon, inverse),
            call(np.sqrt, inverse, inverse),
            call(np.reciprocal, inverse, inverse),
            call(np.multiply, normal, inverse, normal),
            call(np.multiply, normal, self.gamma, y),
            call(np.add, y, self.beta, y),
        ]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """``dx = (g - mean(g) - x̂ mean(g x̂)) / sqrt(var + ε)`` with ``g = γ dy``."""
        calls: list[Call] = []
        for i, gradient in enumerate(gradients):
            dy, normal, inverse = flat_features(gradient), self.normal[i], self.inverse[i]
            dgamma, dbeta = (blocks[i] for blocks in self.site.gradients)
            product, mean = self.site.like([dy])[0], self._like_means(dy)
            features = dy.dtype.type(dy.shape[-1])
            calls += [
                call(np.add.reduce, dy, 1, None, dbeta),
                call(np.multiply, dy, normal, product),
                call(np.add.reduce, product, 1, None, dgamma),
            ]
            if not self.site.passes_back:
                continue
            calls += [
                call(np.multiply, dy, self.gamma, dy),
                call(np.multiply, dy, normal, product),
                call(np.add.reduce, product, -1, None, mean, keepdims=True),
                call(np.divide, mean, features, mean),
                call(np.multiply, normal, mean, product),
                call(np.add.reduce, dy, -1, None, mean, keepdims=True),
                call(np.divide, mean, features, mean),
                call(np.subtract, dy, mean, dy),
                call(np.subtract, dy, product, dy),
                call(np.multiply, dy, inverse, dy),
            ]
        return calls, gradients


def flat_features(block: Array) -> Array:
    """Return a block ``(shards, rows, …, features)`` as ``(shards, positions, features)``."""
    flat = block.reshape(len(block), -1, block.shape[-1])
    assert np.may_share_memory(flat, block)  # a copy would be computed into and forgotten
    return flat
