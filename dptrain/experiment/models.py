"""Models and losses by name: from ``two-layer`` or ``mlp:784-512-10`` to a network."""

import math
import re
from typing import Any, get_args

import msgspec

from dptrain.errors import ShapeError, UsageError, suggestion
from dptrain.experiment.schema import LOSS_FIELDS, Experiment
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.dropout import Dropout
from dptrain.nn.initializers import initializer
from dptrain.nn.layer import Activation
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.losses import LOSSES, AnyLoss
from dptrain.nn.network import AnyLayer, Network, layers_from
from dptrain.nn.normalise import Normalise
from dptrain.nn.row import MOST_LAYERS
from dptrain.own.origin import code_meant

_ACTIVATIONS = [kind for kind in get_args(AnyLayer) if issubclass(kind, Activation)]
ACTIVATIONS: dict[str, AnyLayer] = {kind().kind: kind() for kind in _ACTIVATIONS}
# The initial weights that suit an activation.
SUITABLE_INIT: dict[str, str] = {kind().kind: kind.init for kind in _ACTIVATIONS}
NORMS: dict[str, AnyLayer] = {
    "batch": BatchNorm(),
    "ghost": BatchNorm(sync=False),
    "layer": LayerNorm(),
}
# What a named model brings along where the user says nothing else.
PRESETS: dict[str, dict[str, Any]] = {
    "two-layer": {"activation": "sigmoid", "init": "normal", "optimizer": "sgd", "lr": 0.1},
    # A convex problem: it does not matter where it begins. Data for it are small, so that a step
    # is next to nothing; with sgd, other than with adam, the scale of the targets does not matter.
    "linear": {
        "activation": "identity",
        "init": "zeros",
        "optimizer": "sgd",
        "lr": 0.1,
        "epochs": 100,
    },
}
SIZES = {"two-layer": (784, 50, 10)}
LINEAR = "linear"
_MOST_DIGITS = 18  # more do not fit in 64 bits, and Python refuses to read thousands


def settled_model(model: str, loss: str, classes: int, targets: int) -> str:
    """Return a model's name with all its sizes; ``linear`` gets them from the data.

    Args:
        model: the name.
        loss: its name.
        classes: of the data set, 0 for regression.
        targets: of a row, for regression.

    Raises:
        UsageError: the name is unknown, or the sizes are invalid.
    """
    if model != LINEAR:
        sizes(model)
        return model
    if classes == 2 and LOSSES[loss].binary:
        return f"{LINEAR}:1"
    return f"{LINEAR}:{classes or targets}"


def preset_of(model: str) -> dict[str, Any]:
    """Return the defaults that go with a model's name."""
    return PRESETS.get(model.partition(":")[0], {})


def sizes(model: str) -> tuple[int, ...]:
    """Return the layer sizes of a model's name, inputs first; of ``linear`` the outputs alone.

    Raises:
        UsageError: the name is unknown, or the sizes are invalid.
    """
    if model in SIZES:
        return SIZES[model]
    name, colon, rest = model.partition(":")
    if name not in ("mlp", LINEAR) or not colon:
        if meant := code_meant(model):
            raise UsageError(meant)
        known = [*SIZES, LINEAR, "mlp:784-100-10"]
        near = _with_sizes(model) or suggestion(model, [*SIZES, LINEAR]) or ";"
        raise UsageError(
            f"unknown model {model!r}{near} known models: {', '.join(known)} (any sizes), "
            "FILE.py:NAME; of other layers are the examples, such as conv"
        )
    parts = rest.split("-")
    are_sizes = all(p.isascii() and p.isdigit() and p.strip("0") for p in parts)
    if (longest := max(map(len, parts))) > _MOST_DIGITS or len(parts) > MOST_LAYERS:
        raise UsageError(
            f"model='{model[:40]}…' has {len(parts):,} sizes, one of them of {longest:,} digits; a "
            f"network has at most {MOST_LAYERS:,} layers, and no memory holds such a layer"
        )
    if name == LINEAR and not (are_sizes and len(parts) == 1):
        raise UsageError(
            f"model={model!r} takes one size, that of the outputs, such as linear:1, or none: "
            "linear takes as many as the data need"
        )
    if name == "mlp" and not (are_sizes and len(parts) > 1):
        raise UsageError(
            f"model={model!r} needs at least two sizes of 1 or more, inputs first, such as "
            f"mlp:784-100-10{_with_sizes(model)}"
        )
    return tuple(int(p) for p in parts)


def _with_sizes(model: str) -> str:
    """Return what is meant where sizes are written in another form, such as ``784,50,10``."""
    found = [number for number in re.findall(r"\d+", model) if int(number)]
    return f"; did you mean 'mlp:{'-'.join(found)}'?" if len(found) > 1 else ""


def build_network(experiment: Experiment, sample_shape: tuple[int, ...]) -> Network:
    """Return the network of a settled experiment for samples of a shape.

    Raises:
        UsageError, ShapeError: the model cannot be built, or does not fit the samples.
    """
    first: list[AnyLayer] = []
    if experiment.normalise != "none":
        first.append(Normalise(experiment.normalise))
    if experiment.layers is not None:
        network = Network(
            tuple(experiment.input_shape or sample_shape),
            [*first, *layers_from(experiment.layers)],
            experiment.freeze or (),
        )
        network.check_input(sample_shape)
        return network
    layers = [*first, *_named_layers(experiment, sample_shape)]
    return Network(sample_shape, layers, experiment.freeze or ())


def shape_of_samples(experiment: Experiment, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which a network of layers gets samples.

    Images (1, H, W), (H, W) and (H, W, 1) are the same numbers: they become what the network takes,
    and (H, W, 1) for convolutions.
    """
    if experiment.layers is None:
        return shape
    given = tuple(experiment.input_shape or ())
    if given:
        same = [n for n in given if n != 1] == [n for n in shape if n != 1]
        return given if same else shape
    first = experiment.layers[0].get("layer") if experiment.layers else None
    return (*shape[1:], 1) if first == "conv2d" and len(shape) == 3 and shape[0] == 1 else shape


def _named_layers(experiment: Experiment, sample_shape: tuple[int, ...]) -> list[AnyLayer]:
    """Return the layers of a model's name."""
    found = sizes(experiment.model)
    if experiment.model.startswith(LINEAR):
        found = (math.prod(sample_shape), *found)
    inputs, *units = found
    if inputs != math.prod(sample_shape):
        raise ShapeError(
            f"model={experiment.model!r} takes {inputs} inputs, but the data set has samples of "
            f"shape {sample_shape}; give one with {math.prod(sample_shape)}, such as "
            f"--model mlp:{'-'.join(map(str, (math.prod(sample_shape), *units)))}"
        )
    init = initializer(experiment.init or "he", experiment.init_std)
    activation = ACTIVATIONS[experiment.activation or "relu"]
    layers: list[AnyLayer] = [Flatten()] if len(sample_shape) > 1 else []
    for i, width in enumerate(units):
        layers.append(Dense(width, init))
        if i < len(units) - 1:
            norm = [NORMS[experiment.norm]] if experiment.norm else []
            dropout = [Dropout(experiment.dropout)] if experiment.dropout else []
            layers += [*norm, activation, *dropout]
    return layers


def build_loss(experiment: Experiment) -> AnyLoss:
    """Return the loss of a settled experiment."""
    kind = LOSSES[experiment.loss or "softmax-cross-entropy"]
    given = {name: getattr(experiment, name) for name in LOSS_FIELDS}
    own = {name: given[name] for name in kind.__struct_fields__ if given[name] is not None}
    return msgspec.convert(own, kind)
