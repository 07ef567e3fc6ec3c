"""The one schema behind the command line, the TOML file and the Python API.

An `Experiment` is everything that decides the numbers; what only decides the speed is an
`dptrain.experiment.execution.Execution`. A field that is None takes the default that goes with the
model, the optimizer or the data; `dptrain.experiment.defaults` fills it in and makes a `Settled` of
it, which the run folder records.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from dptrain.data.scale import Scale
from dptrain.data.target_scale import TargetScale
from dptrain.experiment.setting_types import (
    ActivationName,
    Dtype,
    Fraction,
    InitName,
    LossName,
    NormaliseName,
    NormName,
    OptimizerName,
    PositiveFloat,
    PositiveInt,
    ScheduleName,
    TaskName,
)


class Experiment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings that decide the numbers."""

    model: Annotated[
        str,
        Meta(
            description="two-layer (784-50-10 as in the notes), linear (inputs to outputs), mlp: "
            "and the layer sizes, or a network of your own, FILE.py:NAME."
        ),
    ] = "mlp:784-100-10"
    model_args: Annotated[
        dict[str, Any] | None,
        Meta(description="What your own network's constructor takes, as a JSON object."),
    ] = None
    model_targets: Annotated[
        Literal["rows", "flat"] | None,
        Meta(
            description="How your own network gets targets: rows (one-hot, or of values), or flat "
            "(class numbers, or single values); rows unless given."
        ),
    ] = None
    model_digest: str | None = None
    model_state: dict[str, str] | None = None
    activation: Annotated[
        ActivationName | None,
        Meta(
            description="Between the layers of the model; relu, or sigmoid for two-layer, unless "
            "given."
        ),
    ] = None
    norm: Annotated[
        NormName | None,
        Meta(description="Before each activation, by minibatch (batch), shard (ghost) or row."),
    ] = None
    dropout: Annotated[
        Fraction | None,
        Meta(
            description="Fraction left out behind each activation of the model; in training the "
            "others are divided by 1 - dropout."
        ),
    ] = None
    init: Annotated[
        InitName | None,
        Meta(
            description="Initial weights; by default what suits the activation: he for relu and "
            "the like, xavier for the others; normal for two-layer, zeros for linear."
        ),
    ] = None
    init_std: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Standard deviation for --init normal; 0.01 unless given."),
    ] = None
    init_from: Annotated[
        str | None,
        Meta(
            description="A run, or a checkpoint of one, whose weights to begin with; also its "
            "network, unless one is named."
        ),
    ] = None
    init_digest: str | None = None
    freeze: Annotated[
        list[str] | None,
        Meta(
            description="Layers or tensors that stay as they are, such as dense1,dense2.W, or "
            "W1,b1 of a network of your own."
        ),
    ] = None
    normalise: Annotated[
        NormaliseName,
        Meta(
            description="Scale each input by what the training rows have: standard to mean 0 and "
            "deviation 1, minmax to 0 to 1."
        ),
    ] = "none"
    normalise_targets: Annotated[
        Literal["none", "standard"],
        Meta(
            description="Of numbers to predict, by the training rows: standard gives mean 0 and "
            "deviation 1, in which losses are told; predictions are in the targets' own units."
        ),
    ] = "none"
    input_shape: Annotated[
        list[PositiveInt] | None,
        Meta(description="How your own network gets a sample, such as 1,28,28; flat unless given."),
    ] = None
    layers: list[dict[str, Any]] | None = None
    loss: Annotated[
        LossName | None, Meta(description="What is minimised; by default what fits the targets.")
    ] = None
    label_smoothing: Annotated[
        Fraction | None,
        Meta(description="Share of each target spread over all classes, by softmax-cross-entropy."),
    ] = None
    class_weights: Annotated[
        list[PositiveFloat] | Literal["balanced"] | None,
        Meta(
            description="How much each class counts, as 1,1,5, or balanced: more the rarer; for "
            "softmax-cross-entropy, whose sum is divided by the rows, not by their weights."
        ),
    ] = None
    positive_weight: Annotated[
        PositiveFloat | None,
        Meta(description="How much targets of 1 count, by binary-cross-entropy; 1 unless given."),
    ] = None
    huber_delta: Annotated[
        PositiveFloat | None,
        Meta(description="Error beyond which huber is linear instead of quadratic; 1."),
    ] = None
    dataset: Annotated[
        str,
        Meta(
            description="mnist, iris, penguins, breast-cancer, a folder of IDX files, an .npz "
            "file, a .csv or .tsv file, or the mnist.pkl of the book."
        ),
    ] = "mnist"
    dataset_digest: str | None = None
    input_scale: Scale | None = None
    input_offsets: list[float] | None = None
    target_scale: TargetScale | None = None
    label: Annotated[
        str | None,
        Meta(
            description="The column of a CSV file that holds the targets: its name, its number "
            "from 1, first or last; unless given one called label, target … or the last."
        ),
    ] = None
    columns: Annotated[
        list[str] | None,
        Meta(
            description="The columns of a CSV file to learn from, as a,b; by default all others "
            "that do not number the rows."
        ),
    ] = None
    header: Annotated[
        bool | None,
        Meta(description="Whether line 1 of a CSV file names the columns; found out unless given."),
    ] = None
    row_weights: Annotated[
        str | None,
        Meta(
            description="The column of a CSV file that says how much each row counts in training: "
            "its name, or its number from 1; it is not learnt from."
        ),
    ] = None
    transpose: Annotated[
        bool,
        Meta(description="Exchange rows and columns of the data set's images, as EMNIST needs it."),
    ] = False
    task: Annotated[
        TaskName | None,
        Meta(description="What targets are; by default whole numbers and words are classes."),
    ] = None
    validation: Annotated[
        Fraction, Meta(description="Fraction of the training rows held out for validation.")
    ] = 0.0
    test: Annotated[
        Fraction,
        Meta(description="Fraction held out for testing where the data has no test part."),
    ] = 0.2
    train_rows: Annotated[
        PositiveInt | None,
        Meta(description="Train on so many of the training rows only, chosen by the seed."),
    ] = None
    augment_shift: Annotated[
        Annotated[int, Meta(ge=0)],
        Meta(description="Shift each training image by up to so many pixels, anew in each step."),
    ] = 0
    augment_rotate: Annotated[
        Annotated[float, Meta(ge=0, le=180)],
        Meta(description="Rotate each training image by up to so many degrees, either way."),
    ] = 0.0
    augment_noise: Annotated[
        Annotated[float, Meta(ge=0)],
        Meta(
            description="Standard deviation of noise added to each training input; grey values "
            "range from 0 to 1."
        ),
    ] = 0.0
    batch_size: Annotated[
        PositiveInt | None,
        Meta(description="Rows of a global minibatch, over all workers; 100 unless given."),
    ] = None
    shards: Annotated[
        PositiveInt | None,
        Meta(description="Parts of a minibatch, dealt to workers; 4, or more for more workers."),
    ] = None
    epochs: Annotated[
        PositiveInt | None,
        Meta(description="Passes over the training rows; 8, or 100 for linear, unless given."),
    ] = None
    steps: Annotated[
        PositiveInt | None, Meta(description="How many minibatches, instead of --epochs.")
    ] = None
    gradient: Annotated[
        Literal["backprop", "numerical"],
        Meta(description="How it is computed; numerical, by central differences, is very slow."),
    ] = "backprop"
    patience: Annotated[
        PositiveInt | None,
        Meta(
            description="Stop after so many epochs without a better validation score; the best "
            "epoch's weights are restored."
        ),
    ] = None
    min_improvement: Annotated[
        Annotated[float, Meta(ge=0)],
        Meta(description="What the validation score must gain to be better, for --patience."),
    ] = 0.0
    optimizer: Annotated[
        OptimizerName | None,
        Meta(description="The update rule; adam, or sgd for two-layer and linear, unless given."),
    ] = None
    lr: Annotated[
        PositiveFloat | None,
        Meta(
            description="The learning rate; unless given, or brought along by the model, 0.1 for "
            "sgd, 0.01 for momentum, nesterov and adagrad, 0.0001 for lion, 0.001 for the others."
        ),
    ] = None
    momentum: Annotated[
        Fraction | None,
        Meta(description="Share of a step kept for the next, by momentum and nesterov; 0.9."),
    ] = None
    decay: Annotated[
        Fraction | None, Meta(description="Share of its mean square that rmsprop keeps; 0.99.")
    ] = None
    beta1: Annotated[
        Fraction | None,
        Meta(description="Share of the mean gradient kept, by adam, adamw, lion; 0.9."),
    ] = None
    beta2: Annotated[
        Fraction | None,
        Meta(
            description="Share of the mean square kept, by adam, adamw, 0.999; of the mean "
            "gradient, by lion, 0.99."
        ),
    ] = None
    epsilon: Annotated[
        PositiveFloat | None,
        Meta(
            description="Keeps updates from dividing by 0; by default 1e-7 for adagrad and "
            "rmsprop, 1e-8 for adam and adamw."
        ),
    ] = None
    weight_decay: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="Adds weight_decay w to the gradient of the weights, not the biases, and "
            "nothing to reported losses; decoupled for lion, and for adamw, for which it is 0.01 "
            "unless given."
        ),
    ] = None
    l1: Annotated[
        Annotated[float, Meta(ge=0)],
        Meta(
            description="Adds l1 sign(w) to the gradient of the weights, not the biases, and "
            "nothing to reported losses."
        ),
    ] = 0.0
    decayed: Annotated[
        list[str] | None,
        Meta(
            description="Tensors of your own network that --weight-decay and --l1 apply to, as "
            "W1,W2; by default those with more than one axis that are not rows of biases (1, n)."
        ),
    ] = None
    clip_norm: Annotated[
        PositiveFloat | None,
        Meta(description="Largest global norm of the gradient, before --l1 and --weight-decay."),
    ] = None
    schedule: Annotated[
        ScheduleName, Meta(description="How the learning rate changes over the steps.")
    ] = "constant"
    warmup: Annotated[
        Annotated[int, Meta(ge=0)],
        Meta(
            description="Steps of linear rise before the schedule: step s = 0, 1, … has "
            "lr (s + 1) / (warmup + 1)."
        ),
    ] = 0
    decay_rate: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="What step or exponential makes of the rate each period; 0.5 and 0.95."),
    ] = None
    decay_every: Annotated[
        PositiveInt | None, Meta(description="Steps of such a period; one epoch unless given.")
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=0)],
        Meta(
            description="For initial weights, the order of rows, held-out rows, dropout and "
            "augmentation."
        ),
    ] = 0
    dtype: Annotated[Dtype, Meta(description="Of all weights, data and gradients.")] = "float32"


class Settled(Experiment, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment in which every setting is decided: what a run uses and records.

    Settings that are None belong to another kind of network, loss, optimizer or schedule.
    """

    dataset_digest: str | None
    batch_size: PositiveInt
    shards: PositiveInt
    optimizer: OptimizerName
    lr: PositiveFloat
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return how many steps the whole run has."""
        return self.steps or (self.epochs or 1) * steps_per_epoch

    def coefficient(self, name: str) -> float:
        """Return a coefficient of the optimizer, loss or schedule; 0 where there is none."""
        return getattr(self, name) or 0.0


# What a model is called whose layers are given one by one.
OWN_LAYERS = "network"

# Settings that runs record, and nobody gives.
RECORDED = (
    *("model_digest", "model_state", "init_digest", "dataset_digest"),
    *("input_scale", "input_offsets", "target_scale"),
)

# Settings of models that are given by name.
MODEL_FIELDS = ("activation", "norm", "dropout", "init", "init_std")

# Settings that mean something for one kind of optimizer only.
RULE_FIELDS = ("momentum", "decay", "beta1", "beta2", "epsilon")

# Settings that mean something for one kind of loss only.
LOSS_FIELDS = ("label_smoothing", "class_weights", "positive_weight", "huber_delta")
