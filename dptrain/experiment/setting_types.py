"""The types of settings: bounded numbers, and names to choose from."""

from typing import Annotated, Literal

from msgspec import Meta

PositiveInt = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]

ActivationName = Literal[
    "sigmoid", "relu", "tanh", "identity", "leaky-relu", "softplus", "gelu", "silu"
]
InitName = Literal["normal", "xavier", "glorot", "he", "zeros"]
NormName = Literal["batch", "ghost", "layer"]
LossName = Literal[
    "softmax-cross-entropy",
    "binary-cross-entropy",
    "sum-of-squares",
    "mean-squared-error",
    "huber",
    "log-cosh",
    "hinge",
]
OptimizerName = Literal[
    "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "lion"
]
ScheduleName = Literal["constant", "step", "exponential", "cosine"]
Dtype = Literal["float32", "float64"]
NormaliseName = Literal["none", "standard", "minmax"]
TaskName = Literal["classification", "regression"]
