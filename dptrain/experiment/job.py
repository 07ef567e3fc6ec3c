"""A settled experiment and its data, ready to compute with: the same object in every process."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.data.augmentation import Augmentation, Augmenter
from dptrain.data.dataset import Dataset, Split, open_dataset
from dptrain.data.prepared import data_digest, prepare
from dptrain.data.rescaling import ScaleWarning, change_for
from dptrain.data.sampling import epoch_order
from dptrain.data.source import PACKAGED, Choices, Kind, find_source
from dptrain.errors import DataError, ShapeError, UsageError
from dptrain.evaluation.regression import determination, variance
from dptrain.experiment.code import MEMORY, evaluation_rows, own_network
from dptrain.experiment.missing_classes import unused_classes
from dptrain.experiment.models import build_loss, build_network, shape_of_samples
from dptrain.experiment.names import (
    TaskName,
)
from dptrain.experiment.normalisation import (
    check_normalisation,
    fit_normalisation,
    offsets_for,
    with_target_scale,
)
from dptrain.experiment.schema import (
    Experiment,
    Settled,
)
from dptrain.nn import numerical
from dptrain.nn.context import Meeting
from dptrain.nn.losses import AnyLoss
from dptrain.nn.network import Network
from dptrain.nn.numerical import NumericalPass
from dptrain.nn.passes import Pass, Replica, Targets
from dptrain.optim.rules import RULES
from dptrain.optim.schedules import AnySchedule, Constant, Cosine, Exponential, Step
from dptrain.optim.updater import Updater
from dptrain.own.network import OwnNetwork
from dptrain.own.origin import Origin, demand, is_own
from dptrain.own.passes import OwnReplica

SPLITS = ("train", "validation", "test")


class Job:
    """Everything that a settled experiment says about a run.

    Attributes:
        experiment: settled, with the scale of the targets where they are standardised.
        dataset: opened, memory-mapped.
        origin: where a network of the user's own comes from.
        network: the description.
        loss: the description; None where the network is the user's own, whose code has it.
        scores: whether evaluations tell the fraction of correct rows.
        augmentation: of the training samples; possibly none.
        steps_per_epoch: the last of them may have fewer rows.
        total_steps: of the whole run.
        evaluation_rows: of one piece of an evaluation; the last piece may have fewer.
    """

    def __init__(
        self,
        experiment: Settled,
        dataset: Dataset,
        origin: Origin | None = None,
        network: OwnNetwork | None = None,
    ) -> None:
        """Make the network; ``network`` is one of the user's own that is made already."""
        experiment = msgspec.structs.replace(
            experiment, input_offsets=list(dataset.offsets) or None
        )
        self.experiment = experiment = with_target_scale(experiment, dataset)
        self.dataset = dataset = dataset.standardised(experiment.target_scale)
        self.origin = origin
        self.dtype: np.dtype[Any] = np.dtype(experiment.dtype)
        if experiment.row_weights is not None and dataset.train.weights is None:
            raise UsageError(
                f"row_weights={experiment.row_weights!r} names a column of a table, and these are "
                "arrays; give their weights as sample_weight"
            )
        self.network: Network | OwnNetwork
        self.loss: AnyLoss | None = None
        if is_own(experiment.model) and experiment.layers is None:
            self.network = network or own_network(experiment, dataset, origin)
            self.scores = self.network.scores
        else:
            self.network = build_network(experiment, dataset.sample_shape)
            self.loss = build_loss(experiment)
            self.scores = bool(dataset.classes)
            self._check(self.network, self.loss)
        self.augmentation = Augmentation(
            experiment.augment_shift, experiment.augment_rotate, experiment.augment_noise
        )
        self.augmentation.check(dataset.sample_shape)
        self.batch_size = experiment.batch_size
        self.shards = experiment.shards
        self.evaluation_rows = evaluation_rows(experiment)
        self.steps_per_epoch = -(-len(dataset.train) // self.batch_size)
        self.total_steps = experiment.total_steps(self.steps_per_epoch)
        self._variances: dict[str, float] = {}
        self._order: tuple[int, NDArray[np.intp]] = (-1, np.empty(0, np.intp))

    def _check(self, network: Network, loss: AnyLoss) -> None:
        """Raise where network, loss and data do not fit each other."""
        check_normalisation(network)
        try:
            loss.check(network.output_shape, self.dataset.classes, self.dataset.target_shape)
        except ShapeError as error:
            unused = unused_classes(self.dataset)
            raise ShapeError(f"{error}{f'; {unused}' * bool(unused)}") from None
        if self.experiment.gradient == "numerical":
            numerical.check(network)
        if not self.dataset.classes:
            for name in ("train", "test"):  # validation rows are of the training part
                loss.check_values(self.split(name).targets, name)

    def rows(self, step: int) -> int:
        """Return how many rows the minibatch of a step has."""
        start = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, len(self.dataset.train) - start)

    def minibatch(self, step: int) -> NDArray[np.intp]:
        """Return which training rows make up the minibatch of a step, in order."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            order = epoch_order(self.experiment.seed, epoch, len(self.dataset.train))
            self._order = (epoch, order)
        start = position * self.batch_size
        return self._order[1][start : start + self.batch_size]

    def split(self, name: str) -> Split:
        """Return the split called ``train``, ``validation`` or ``test``."""
        found: Split = getattr(self.dataset, name)
        return found

    def pieces(self, name: str) -> int:
        """Return into how many pieces the evaluation of a split is cut."""
        return -(-len(self.split(name)) // self.evaluation_rows)

    def r2(self, split: str, loss: float) -> float | None:
        """Return the coefficient of determination of a split, where its mean loss tells it."""
        if self.dataset.classes or self.loss is None:
            return None
        error = self.loss.squared_error(loss, sum(self.dataset.target_shape))
        return None if error is None else determination(error, self._target_variance(split))

    def _target_variance(self, name: str) -> float:
        if name not in self._variances:
            self._variances[name] = variance(self.split(name).all_targets())
        return self._variances[name]

    def augmenter(self) -> Augmenter | None:
        """Return what augments the samples of training steps, if anything does."""
        if not self.augmentation:
            return None
        return self.augmentation.bind(self.dataset.sample_shape, self.dtype, self.experiment.seed)

    def replica(
        self,
        versions: Sequence[NDArray[Any]],
        gradients: NDArray[Any] | None = None,
        meeting: Meeting | None = None,
    ) -> Replica | OwnReplica:
        """Return the network bound to flat parameter vectors; arguments as of `Replica`."""
        targets = Targets(self.dataset.target_shape, self.dataset.train.target_dtype(self.dtype))
        seed = self.experiment.seed
        if isinstance(self.network, OwnNetwork):
            shape = self.dataset.sample_shape
            return OwnReplica(self.network, shape, versions, targets, gradients, seed=seed)
        assert self.loss is not None
        return Replica(
            self.network,
            self.loss,
            versions,
            targets,
            gradients,
            seed=seed,
            meeting=meeting,
            weighted=self.dataset.train.weights is not None,
            kind=NumericalPass if self.experiment.gradient == "numerical" else Pass,
        )

    def initial_parameters(self) -> NDArray[Any]:
        """Return the flat vector that the run begins with.

        Only the coordinator asks for it: whatever is taken from the data is the same on all ranks.
        """
        flat = self.network.initial_parameters(self.experiment.seed, self.dtype)
        if isinstance(self.network, Network):
            fit_normalisation(self.network, flat, self.dataset.train)
        return flat

    @cached_property
    def updater(self) -> Updater:
        """What turns reduced gradients into new parameters."""
        return Updater(
            self._rule(),
            self._schedule(),
            weight_decay=self.experiment.weight_decay,
            l1=self.experiment.l1,
            clip_norm=self.experiment.clip_norm,
            decaying=[(t.start, t.stop) for t in self.network.all_tensors() if t.decays],
            dtype=self.dtype,
            moving=[
                (t.start, t.stop, 0.0 if t.frozen else t.average or 0.0)
                for t in self.network.all_tensors()
                if not t.trained
            ],
        )

    def _rule(self) -> Any:
        kind = RULES[self.experiment.optimizer]
        return kind(**{name: getattr(self.experiment, name) for name in kind.__struct_fields__})

    def _schedule(self) -> AnySchedule:
        e = self.experiment
        lr, warmup = e.lr, e.warmup
        period = e.decay_every or self.steps_per_epoch
        if e.schedule == "step":
            return Step(lr=lr, warmup=warmup, rate=e.decay_rate or 1.0, every=period)
        if e.schedule == "exponential":
            return Exponential(lr=lr, warmup=warmup, rate=e.decay_rate or 1.0, every=period)
        if e.schedule == "cosine":
            return Cosine(lr=lr, warmup=warmup, length=max(1, self.total_steps - warmup))
        return Constant(lr=lr, warmup=warmup)


def open_job(experiment: Settled, folder: Path, origin: Origin | None = None) -> Job:
    """Return the job of a settled experiment whose data set lies prepared in ``folder``.

    Raises:
        DataError: the data set is not the one that the experiment was settled with.
        UsageError: the network is code that the user has not named.
    """
    dataset = opened_data(experiment, folder)
    check_digest(experiment, dataset)
    return Job(experiment, dataset, origin)


def evaluation_job(
    experiment: Settled,
    dataset: str | None,
    origin: Origin | None = None,
    class_names: Sequence[str] = (),
) -> Job:
    """Return the job in which trained weights are evaluated.

    Another data set is read as the run's own was: columns by their names, classes by the run's
    numbers; all of its rows are test rows, unless it brings a test part.

    Args:
        experiment: settled.
        dataset: another data set than the one that was trained on.
        origin: where a network of the user's own comes from.
        class_names: of the run, empty for a regression; only for another data set.

    Raises:
        DataError, UsageError, ShapeError: there is no such data set, or it does not fit; or the
            network is code that the user has not named.
    """
    demand(experiment.model, origin)
    if dataset is not None:
        if find_source(dataset).kind is not Kind.CSV:
            experiment = msgspec.structs.replace(
                experiment, label=None, columns=None, header=None, row_weights=None
            )
        transpose = experiment.transpose and dataset not in PACKAGED
        experiment = msgspec.structs.replace(experiment, dataset=dataset, transpose=transpose)
    if dataset and not _is_own_data(experiment):
        experiment, opened = _foreign(experiment, class_names)
    else:
        opened = opened_data(experiment, prepared_data(experiment))
    change, doubt = change_for(opened.scale, experiment.input_scale, opened.sample_shape)
    if doubt:
        warnings.warn(f"{experiment.dataset}: {doubt}", ScaleWarning, stacklevel=2)
    return Job(experiment, opened.changed(change), origin)


def _is_own_data(experiment: Settled) -> bool:
    """Return whether a data set is the one that the run was trained on, wherever it lies."""
    try:
        return data_digest(experiment.dataset, _choices(experiment)) == experiment.dataset_digest
    except DataError:
        if experiment.row_weights is None:
            raise
        return False  # other tables need no weights; what else is wrong will be told


def _foreign(experiment: Settled, class_names: Sequence[str]) -> tuple[Settled, Dataset]:
    """Return the experiment on data that the run has not seen, and these as test rows."""
    task: TaskName = "classification" if class_names else "regression"
    experiment = msgspec.structs.replace(
        experiment,
        train_rows=None,
        validation=0.0,
        test=0.0,
        task=task,
        row_weights=None,  # which are for training
    )
    opened = opened_data(experiment, prepared_data(experiment, class_names, centred=False))
    experiment = msgspec.structs.replace(experiment, dataset_digest=None)
    size, wanted = math.prod(opened.sample_shape), math.prod(experiment.input_shape or ())
    if experiment.input_shape and size != wanted:
        raise ShapeError(
            f"{experiment.dataset} has samples of {size} values, but the run learnt from {wanted}"
        )
    if len(opened.test):
        return experiment, opened
    nothing = replace(opened.train, index=np.empty(0, np.intp))
    return experiment, replace(opened, train=nothing, test=opened.train)


def opened_data(experiment: Experiment, folder: Path) -> Dataset:
    """Return the data set that lies prepared in ``folder``, split as an experiment has it.

    Raises:
        DataError, UsageError: as `open_dataset`.
    """
    opened = open_dataset(
        folder,
        validation=experiment.validation,
        test=experiment.test,
        seed=experiment.seed,
        train_rows=experiment.train_rows,
    )
    return opened.shaped(shape_of_samples(experiment, opened.sample_shape))


def prepared_data(
    experiment: Experiment, class_names: Sequence[str] = (), *, centred: bool = True
) -> Path:
    """Return the folder of an experiment's data set, prepared now unless it was before.

    ``class_names`` are those of a run whose numbering is to be kept. ``centred`` is that of
    `offsets_for`.

    Raises:
        DataError: there is no such data set, or it was arrays in memory.
    """
    if experiment.dataset == MEMORY:
        raise DataError(
            "the run was trained on the arrays of a script, which dptrain.fit has to be given "
            "again; or name a file with the same arrays, x_train and t_train, as --dataset FILE.npz"
        )
    recorded, path = experiment.dataset_digest is not None, Path(experiment.dataset).expanduser()
    if recorded and experiment.dataset not in PACKAGED and not path.exists():
        raise DataError(
            f"the data set is no longer at {experiment.dataset}; name where the same data lie "
            "with --dataset"
        )
    return prepare(
        experiment.dataset,
        dtype=experiment.dtype,
        label=experiment.label,
        columns=experiment.columns,
        header=experiment.header,
        task=experiment.task,
        class_names=class_names,
        transpose=experiment.transpose,
        row_weights=experiment.row_weights,
        exact=recorded and experiment.header is not None,
        exact_targets=experiment.normalise_targets != "none",
        offsets=offsets_for(experiment, centred=centred),
    )


def _choices(experiment: Experiment) -> Choices:
    e = experiment
    exact = e.dataset_digest is not None and e.header is not None
    return Choices(
        e.label,
        e.columns,
        e.header,
        e.task,
        transpose=e.transpose,
        row_weights=e.row_weights,
        exact=exact,
    )


def check_digest(experiment: Experiment, dataset: Dataset) -> None:
    """Raise `DataError` where an experiment was recorded with other data."""
    wanted = experiment.dataset_digest
    if wanted is not None and wanted != dataset.digest:
        what = f"the data set {experiment.dataset}"
        remedy = (
            "restore the data, name where they lie with --dataset, or remove dataset_digest from "
            "an experiment.toml to train anew on what is there"
        )
        if experiment.dataset == MEMORY:
            what = "what the arrays hold"
            remedy = "give the same ones, of the same dtype and in the same order"
        raise DataError(
            f"{what} is not what the experiment was recorded with: its digest was {wanted[:12]}, "
            f"now it is {dataset.digest[:12]}; {remedy}"
        )


def plain_job(experiment: Experiment) -> dict[str, Any]:
    """Return a settled experiment as plain data for a message."""
    return dict(msgspec.to_builtins(experiment))
