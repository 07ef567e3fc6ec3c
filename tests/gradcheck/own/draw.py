"""Random networks, all correct: a seed names one."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tests.gradcheck.own.layers import (
    Abs,
    Affine,
    Array,
    BatchNorm,
    BinaryCrossEntropy,
    Clip,
    Convolution,
    Dropout,
    Hinge,
    Layer,
    LeakyRelu,
    LoopConvolution,
    Loss,
    MaxPool,
    Relu,
    Sigmoid,
    Single,
    SoftmaxCrossEntropy,
    Softplus,
    SquaredError,
    Tanh,
    TopK,
)
from tests.gradcheck.own.networks import (
    AsFunction,
    Net,
    Penalty,
    Plain,
    TwoLayers,
    WithAttribute,
    WithKeyword,
)

ROWS, CLASSES = 70, 3
# Shapes of a sample; "sparse" images are 0 for the most part, as scanned digits are.
INPUTS: dict[str, tuple[int, ...]] = {
    "tiny": (2,), "small": (5,), "middle": (30,), "wide": (200,),
    "image": (2, 4, 5), "sparse": (1, 5, 5),
}  # fmt: skip
OUTPUTS = {"classes": CLASSES, "binary": 1, "numbers": 2}
ACTIVATIONS = (Relu, Relu, LeakyRelu, Sigmoid, Tanh, Abs, Clip, Softplus)


@cache
def rows(inputs: str, targets: str) -> tuple[Array, Array]:
    """Return inputs ``(70, *shape)`` and class numbers ``(70,)``, or numbers ``(70, outputs)``."""
    random = np.random.default_rng(11)
    shape = (ROWS, *INPUTS[inputs])
    x = random.standard_normal(shape)
    if inputs == "sparse":
        x = np.where(random.random(shape) < 0.25, random.integers(0, 256, shape) / 255, 0.0)
    if targets == "classes":
        return x, np.arange(ROWS) % CLASSES
    if targets == "binary":
        return x, (np.arange(ROWS) % 2)[:, None] * 1.0
    return x, random.standard_normal((ROWS, OUTPUTS[targets]))


class Drawn(NamedTuple):
    """A network and what it is checked with.

    Attributes:
        network: the object, with ``gradients(x, t, training)``.
        given: what a user gives: the network, or a function.
        params: of a function.
        data: kinds of inputs and targets, of `rows`.
        settings: of the experiment.
    """

    network: Any
    given: Any
    params: dict[str, Array] | None
    data: tuple[str, str]
    settings: dict[str, Any]

    @property
    def traits(self) -> str:
        """What the network is made of."""
        layers = getattr(self.network, "layers", [])
        kinds = [type(each).__name__ for each in (self.given, *layers, self.network.last)]
        return ", ".join([*kinds, *self.data, str(self.settings)])


class Drawing:
    """Draws one network."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def one_of(self, *choices: Any) -> Any:
        return choices[self.random.integers(len(choices))]

    def drawn(self) -> Drawn:
        """Return everything of it."""
        image = self.chance(0.15)
        inputs = self.one_of("image", "sparse") if image else self._vector()
        targets = self.one_of("classes", "classes", "classes", "binary", "numbers")
        loss = self._loss(targets)
        # weights from dead to saturated, biases often 0
        self.scale = float(10 ** self.random.uniform(-2, 0.7)) if self.chance(0.3) else 0.0
        self.kind = np.float32 if self.chance(0.04) else np.float64
        settings = {
            "batch_size": int(self.random.integers(2, 31)),
            "shards": self.one_of(1, 1, 1, 1, 2, 5),
            "model_targets": self.one_of("rows", "flat"),
            "lr": self.one_of(0.01, 0.1),
        }
        if targets == "numbers":
            settings["model_targets"] = "rows"
        if not image and self.chance(0.2):
            network: Any = self._by_hand(inputs, targets, loss)
        else:
            network = self._of_layers(inputs, targets, loss, image)
        given, params = network, None
        named = getattr(network, "named", True) and not isinstance(network, WithKeyword)
        if named and not image and self.chance(0.3):
            given, params = AsFunction(network), network.params
        return Drawn(network, given, params, (inputs, targets), settings)

    def _vector(self) -> str:
        where = self.random.random()
        return (
            "wide" if where < 0.006 else "middle" if where < 0.15 else self.one_of("tiny", "small")
        )

    def _loss(self, targets: str) -> Loss:
        epsilon = self.one_of(0.0, 0.0, 1e-7)
        if targets == "classes":
            every = (SoftmaxCrossEntropy(epsilon), SoftmaxCrossEntropy(epsilon), Hinge())
            return every[self.random.integers(3)]
        return BinaryCrossEntropy(epsilon) if targets == "binary" else SquaredError()

    def _width(self, inputs: str) -> int:
        low, high = {"middle": (8, 31), "wide": (50, 171)}.get(inputs, (2, 8))
        return int(self.random.integers(low, high))

    def _weights(self, *shape: int) -> Array:
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        scale = self.scale or np.sqrt(1.5 / fan)
        if self.chance(0.02):
            scale = 0.0
        return (scale * self.random.standard_normal(shape)).astype(self.kind)

    def _bias(self, width: int) -> Array:
        spread = self.one_of(0.0, 0.0, 0.1)
        return (spread * self.random.standard_normal(width)).astype(self.kind)

    def _by_hand(self, inputs: str, targets: str, loss: Loss) -> TwoLayers:
        size, width, outputs = INPUTS[inputs][0], self._width(inputs), OUTPUTS[targets]
        params = {
            "W1": self._weights(size, width),
            "b1": self._bias(width),
            "W2": self._weights(width, outputs),
            "b2": self._bias(outputs),
        }
        return TwoLayers(params, self.one_of("relu", "tanh", "sigmoid"), loss)

    def _of_layers(self, inputs: str, targets: str, loss: Loss, image: bool) -> Net:
        layers: list[Layer] = []
        size = int(np.prod(INPUTS[inputs]))
        if image:
            front, size = self._front(INPUTS[inputs])
            layers += front
        single = self.chance(0.04)
        layers += [Single()] * (single and self.chance(0.5))
        for _ in range(self.one_of(0, 1, 1, 1, 2, 2, 3)):
            width = self._width(inputs)
            layers += [Affine(self._weights(size, width), self._bias(width))]
            layers += self._norm(width)
            layers.append(self.one_of(*ACTIVATIONS)())
            layers += self._beside()
            size = width
        layers += [Single()] * (single and not any(isinstance(e, Single) for e in layers))
        layers.append(Affine(self._weights(size, OUTPUTS[targets]), self._bias(OUTPUTS[targets])))
        form = self.one_of(Plain, WithKeyword, WithAttribute)
        network: Net = form(layers, loss, named=self.chance(0.5))
        if isinstance(network, WithAttribute):
            network.training = self.chance(0.7)
        if self.chance(0.35):
            network.penalty = self._penalty(list(network.params))
        return network

    def _front(self, shape: tuple[int, ...]) -> tuple[list[Layer], int]:
        channels, rows, columns = shape
        filters, pad = int(self.random.integers(1, 4)), self.one_of(0, 1)
        kind = LoopConvolution if self.chance(0.15) else Convolution
        layers: list[Layer] = [
            kind(self._weights(filters, channels, 3, 3), self._bias(filters), pad)
        ]
        if self.chance(0.8):
            layers.append(self.one_of(*ACTIVATIONS)())
        rows, columns = rows - 2 + 2 * pad, columns - 2 + 2 * pad
        if self.chance(0.7):
            layers.append(MaxPool())
            rows, columns = rows // 2, columns // 2
        return layers, filters * rows * columns

    def _norm(self, width: int) -> list[Layer]:
        if not self.chance(0.2):
            return []
        scale = 1 + 0.1 * self.random.standard_normal(width)
        gamma, beta = scale.astype(self.kind), self._bias(width)
        return [BatchNorm(gamma, beta, made_late=self.chance(0.5))]

    def _beside(self) -> list[Layer]:
        found: list[Layer] = [TopK()] * self.chance(0.08)
        return found + [Dropout(self.chance(0.5))] * self.chance(0.15)

    def _penalty(self, names: list[str]) -> Penalty:
        weights = tuple(each for each in names if each[0] == "W")
        which = weights if self.chance(0.8) else tuple(names)
        amount = self.one_of(1e-4, 1e-3, 0.01, 0.05)
        return Penalty(amount, self.chance(0.7), which)


def network(seed: int) -> Drawn:
    """Return the network of a seed, the same each time."""
    return Drawing(seed).drawn()
