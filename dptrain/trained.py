"""Trained weights put to use: prediction and evaluation from a checkpoint or a finished run."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint
from dptrain.data.arrays import finite_numbers, numbered, plain_array
from dptrain.data.dataset import Split
from dptrain.data.frames import check_rows, columns_of, names_of
from dptrain.data.inputs import check_finite
from dptrain.data.pickled import PICKLES
from dptrain.data.rescaling import ScaleWarning, change_for, rescaled, scale_of
from dptrain.data.rounding import lost_before
from dptrain.data.targets import are_one_hot
from dptrain.errors import CheckpointError, DataError, DptrainError, ShapeError, UsageError
from dptrain.evaluation.classification import Classification, classification
from dptrain.evaluation.regression import Regression, regression
from dptrain.experiment.files import parse_toml, to_toml
from dptrain.experiment.models import build_loss, build_network
from dptrain.experiment.own_code import evaluation_rows
from dptrain.experiment.schema import Settled
from dptrain.experiment.validate import build
from dptrain.nn.losses import AnyLoss, SumOfSquares
from dptrain.nn.network import Layout, Network
from dptrain.nn.passes import Arrangement, Replica, TargetForm
from dptrain.own.network import OwnNetwork, SampleForm
from dptrain.own.origin import Origin, is_own
from dptrain.runfolder import RunFolder
from dptrain.weights.book import command_for
from dptrain.weights.model_file import is_model_file, load_model
from dptrain.weights.params import load_params

# A product of matrices may give a row other last digits among more rows, or further down. Layers
# compute every row as a shard of its own; code of one's own gets always as many rows, and so few
# that OpenBLAS takes them all in the same way.
ROWS = 64
OWN_ROWS = 8
AT_ONCE = 10_000  # rows of a split in memory


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights.

    Attributes:
        network: the description; of a network of the user's own perhaps without its code.
        parameters: the flat vector ``(network.size,)``.
        experiment: settled, with which it was trained.
        class_names: one per class; empty for a regression.
    """

    network: Network | OwnNetwork
    parameters: NDArray[Any]
    experiment: Settled
    class_names: tuple[str, ...]

    @property
    def loss(self) -> AnyLoss:
        """The loss with which it was trained; raises `UsageError` where the user's code has it."""
        self.layered("its loss")
        return build_loss(self.experiment)

    def layered(self, wanted: str) -> Network:
        """Return the network where it is made of layers.

        Args:
            wanted: what for, for the message.

        Raises:
            UsageError: it is the user's own.
        """
        if isinstance(self.network, OwnNetwork):
            raise UsageError(
                f"the run's network is code, {self.network.name}, of which dptrain knows the "
                f"arrays but no layers, so that it cannot give {wanted}; the arrays are "
                "load_run(...)[0].weights in Python, and `dptrain convert` writes them as a .pkl"
            )
        return self.network

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        """The tensors by name, such as ``"dense1.W"``: views of the flat vector."""
        return self.network.views(self.parameters)

    def saved(self) -> Checkpoint:
        """Return the weights as those of a checkpoint without steps."""
        return Checkpoint(
            tensors=self.weights,
            optimizer={},
            step=0,
            epoch=0,
            experiment=to_toml(self.experiment),
            digest=digest(self.parameters),
            progress={"class_names": "\n".join(self.class_names)},
        )

    def outputs(self, x: ArrayLike) -> NDArray[Any]:
        """Return the network's outputs ``(n, *output_shape)``.

        Args:
            x: samples ``(n, *input_shape)``, or one sample. They are brought to the scale of the
                inputs that the network was trained on: grey values from 0 to 255 become what those
                were, whatever dtype they come in. A row's outputs are the same to the last bit
                whichever rows stand beside it. Of a data frame the columns that the run learnt from
                are taken, by their names.

        Where targets were standardised, the outputs are in the targets' own units, float64.

        Warns:
            ScaleWarning: they seem to have another scale.

        Raises:
            ShapeError: the samples do not fit the network.
            DataError: a value is not a finite number, or a column is missing.
            UsageError: the network is the user's own, and its code is not at hand.
        """
        return self.in_own_units(self.computed(self._samples(x)))

    def in_own_units(self, standardised: NDArray[Any]) -> NDArray[Any]:
        """Return targets or outputs as they are trained on in the targets' own units."""
        scale = self.experiment.target_scale
        return standardised if scale is None else scale.restored(standardised)

    def computed(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return the outputs of samples as they are trained on, such as those of a split.

        They stand for targets as these are trained on, which may be standardised.

        Args:
            samples: ``(n, …)`` of the network's dtype.
        """
        samples = samples.reshape(len(samples), *self.network.input_shape)
        if isinstance(self.network, OwnNetwork):
            most = min(OWN_ROWS, evaluation_rows(self.experiment))
            rows = 1 << (most.bit_length() - 1)
            return self.network.outputs(self.parameters, samples, rows)
        dtype = self.parameters.dtype
        targets = TargetForm(self.network.output_shape, dtype)
        replica = Replica(self.network, SumOfSquares(), [self.parameters], targets)
        found = np.empty((len(samples), *self.network.output_shape), dtype)
        each = replica.pass_over(Arrangement(ROWS, ROWS, 0, ROWS, training=False))
        each.inputs[0][...] = 0
        for start in range(0, len(samples), ROWS):
            part = samples[start : start + ROWS]
            each.inputs[0][: len(part)] = part
            with np.errstate(over="ignore"):
                found[start : start + len(part)] = each.infer()[0][: len(part), 0]
        return found

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """Return what the network predicts of each sample.

        Of a classifier ``(n, classes)``, probabilities where `loss` is probabilistic, otherwise
        scores, of which the largest is the answer. Without classes ``(n, *output_shape)``: what
        stands for the targets. Of a network of the user's own, what its ``predict`` returns.
        """
        if isinstance(self.network, OwnNetwork):
            return self.outputs(x)
        return self.loss.predictions(self._scores(self.outputs(x)))

    def classify(self, x: ArrayLike) -> NDArray[np.intp]:
        """Return the most likely class number of each sample, ``(n,)``.

        Raises:
            UsageError: the network predicts numbers.
        """
        if not self.class_names:
            raise UsageError("the network predicts numbers, not classes; use predict or evaluate")
        return self._classes(self.outputs(x))

    def _classes(self, outputs: NDArray[Any]) -> NDArray[np.intp]:
        if isinstance(self.network, OwnNetwork):
            return self.network.answers(outputs)
        found: NDArray[np.intp] = np.argmax(self._scores(outputs), axis=-1)
        return found

    def accuracy(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the fraction of samples whose most likely class is ``t``.

        Those are class numbers, names of classes, or one-hot rows.
        """
        check_rows(x, t)
        answers = self.classify(x)
        return classification(self._labels(t), answers, self.class_names).accuracy

    def evaluate(self, x: ArrayLike, t: ArrayLike) -> Classification | Regression:
        """Return how good the answers are: accuracy, precision, recall …, or R², RMSE and MAE.

        Args:
            x: samples, as for `outputs`.
            t: class numbers ``(n,)``, names of classes, or one-hot rows; of a regression
                ``(n,)`` or ``(n, k)``.

        Raises:
            ShapeError, DataError: as `outputs`, or the targets are not as many as the samples.
        """
        check_rows(x, t)
        answers = self.answers(self._samples(x))
        targets = self._labels(t) if self.class_names else finite_numbers(t, "t")
        return self._judged(answers, targets)

    def evaluate_split(self, split: Split) -> Classification | Regression:
        """Return the same of a split of a data set, of which few rows are in memory at once."""
        answers, targets = [], []
        for start in range(0, len(split), AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, len(split)))
            x, t = split.take(rows, self.parameters.dtype)
            answers.append(self.answers(x))
            targets.append(self.in_own_units(t))
        return self._judged(np.concatenate(answers), np.concatenate(targets))

    def answers(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return classes ``(n,)``, or the outputs of a regression; samples as for `computed`."""
        outputs = self.in_own_units(self.computed(samples))
        return self._classes(outputs) if self.class_names else outputs

    def _judged(self, answers: NDArray[Any], t: NDArray[Any]) -> Classification | Regression:
        if self.class_names:
            return classification(t, answers, self.class_names)
        scale = self.experiment.target_scale
        return regression(t, answers, None if scale is None else scale.deviation)

    def _labels(self, t: ArrayLike) -> NDArray[np.int64]:
        """Return class numbers of labels in any form; one-hot columns of a frame by their names."""
        labels, names = plain_array(t, "t"), names_of(t) or ()
        if len(names) > 1 and set(names) <= set(self.class_names) and are_one_hot(labels):
            labels = np.array(names)[labels.argmax(axis=1)]
        return numbered(labels, self.class_names, "t")

    def _scores(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Return outputs, for both classes where one output tells them apart by its sign."""
        if self.loss.binary and outputs.shape[1:] == (1,) and len(self.class_names) == 2:
            return np.concatenate([-outputs, outputs], axis=1)
        return outputs

    def _samples(self, given: ArrayLike) -> NDArray[Any]:
        """Return samples as they are trained on."""
        x = plain_array(columns_of(given, self.experiment.columns), "the input")
        if x.dtype.kind not in "buif":
            raise DataError(f"the input has dtype {x.dtype}; it must hold numbers or booleans")
        shape = self.network.input_shape
        size = math.prod(shape)
        if x.shape == shape:
            x = x[np.newaxis]
        moved = (shape[2], *shape[:2]) if len(shape) == 3 else shape
        if x.shape[1:] == moved != shape and moved[0] > 1:
            raise ShapeError(
                f"the network takes samples of shape {shape}, those of the input have their "
                f"channels first, {moved}; give np.moveaxis(x, 1, -1)"
            )
        if x.ndim < 1 or math.prod(x.shape[1:]) != size or len(x) == 0:
            raise ShapeError(
                f"the network takes samples of shape {shape}, so an array of shape (n, "
                f"{', '.join(map(str, shape))}); the input has shape {x.shape}"
            )
        x = x.reshape(len(x), *shape)
        change, doubt = change_for(scale_of(x), self.experiment.input_scale, shape)
        if doubt:
            warnings.warn(doubt, ScaleWarning, stacklevel=4)
        if self.experiment.input_offsets is not None:  # before digits are lost
            if lost := lost_before(x.dtype, self.experiment.input_offsets):
                warnings.warn(lost, ScaleWarning, stacklevel=4)
            x = x.astype(np.float64) - np.reshape(self.experiment.input_offsets, shape)
        samples = rescaled(x, change, self.parameters.dtype)
        flat = x.reshape(len(x), -1)
        check_finite(samples.reshape(flat.shape), flat, name="input")
        return samples


def load_run(
    path: str | Path, which: Literal["last", "best"] = "last", network: object | None = None
) -> tuple[TrainedNetwork, Checkpoint]:
    """Return the network of a run's checkpoint, or of a model file.

    Args:
        path: the run folder, or an .npz file that `compress` or `convert` wrote.
        which: the newest checkpoint, or the one with the best score on validation rows, or on the
            test rows where none were held out; of a file always "last".
        network: where it is one of the user's own, such a network to put the weights into, or what
            was named on the command line (`dptrain.own.origin.Named`). Without it the weights can
            be read, but nothing computed.

    Raises:
        RunFolderError, CheckpointError: there is no such run, or its checkpoint is damaged.
        UsageError: the best score of a model file, or a file of bare parameters; or the network
            lacks something.
    """
    path = Path(path)
    if path.suffix in PICKLES and not path.is_dir():
        raise UsageError(
            f"{path}: holds parameters without a network; make a model of it first, with "
            f"{command_for(path, load_params(path))}"
        )
    if is_model_file(path):
        if which == "best":
            raise UsageError(f"{path} holds one set of weights; leave out --checkpoint best")
        file, checkpoint = path, load_model(path)
    else:
        file = RunFolder.open(path).existing_checkpoint(which)
        checkpoint = load_checkpoint(file)
    try:
        tables = parse_toml(checkpoint.experiment, str(file))
        experiment = build(Settled, tables["experiment"], str(file))
        names = checkpoint.progress.get("class_names")
        classes = tuple(str(names).split("\n")) if names else ()
        built = _built(experiment, checkpoint, len(classes))
        if classes and isinstance(built, Network):
            build_loss(experiment).check(built.output_shape, len(classes), ())
    except DptrainError as error:
        raise CheckpointError(f"{file}: {error}") from None
    if isinstance(built, OwnNetwork) and network is not None:
        from dptrain.own.object_origin import (
            ObjectOrigin,  # here, because most runs start without it
        )

        origin = network if isinstance(network, Origin) else ObjectOrigin(network)
        if origin is network:
            origin.check(experiment.model, None)
        model = origin.make(experiment.model_args, experiment.seed)
        built = built.with_code(model.with_state(experiment.model_state or {}))
    parameters = flat_parameters(built, np.dtype(experiment.dtype), checkpoint)
    return TrainedNetwork(built, parameters, experiment, classes), checkpoint


def _built(experiment: Settled, checkpoint: Checkpoint, classes: int) -> Network | OwnNetwork:
    shape = tuple(experiment.input_shape or ())
    if experiment.layers is not None or not is_own(experiment.model):
        return build_network(experiment, shape)
    form = SampleForm(shape, classes, experiment.model_targets == "flat")
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    return OwnNetwork(experiment.model, shapes, form)


def flat_parameters(network: Layout, dtype: np.dtype[Any], checkpoint: Checkpoint) -> NDArray[Any]:
    """Return a checkpoint's weights as the flat vector of a network.

    Raises:
        CheckpointError: the checkpoint is of another network.
    """
    tensors = network.all_tensors()
    wanted = {t.name: (t.shape, dtype) for t in tensors}
    found = {name: (t.shape, t.dtype) for name, t in checkpoint.tensors.items()}
    if wanted != found:
        name = next(n for n in [*wanted, *found] if wanted.get(n) != found.get(n))
        raise CheckpointError(
            f"the checkpoint is of another network: {name} is {_tensor(found.get(name))}, the "
            f"experiment has {_tensor(wanted.get(name))}"
        )
    flat = np.empty(network.size, dtype)
    for tensor in tensors:
        flat[tensor.start : tensor.stop] = checkpoint.tensors[tensor.name].reshape(-1)
        if not np.isfinite(flat[tensor.start : tensor.stop]).all():
            raise CheckpointError(f"the checkpoint's {tensor.name} holds an infinity or NaN")
    return flat


def _tensor(found: tuple[Sequence[int], Any] | None) -> str:
    return "missing" if found is None else f"{found[1]} {tuple(found[0])}"
