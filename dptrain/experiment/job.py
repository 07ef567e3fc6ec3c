"""A settled experiment and its data, ready to compute with: the same object in every process."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.data.augmentation import Augmentation, Augmenter
from dptrain.data.dataset import Dataset, Split, epoch_order
from dptrain.errors import ShapeError, UsageError
from dptrain.evaluation.regression import determination, variance
from dptrain.experiment.job_data import check_digest, opened_data
from dptrain.experiment.missing_classes import unused_classes
from dptrain.experiment.models import build_loss, build_network
from dptrain.experiment.normalisation import (
    check_normalisation,
    fit_normalisation,
    with_target_scale,
)
from dptrain.experiment.own_code import evaluation_rows, own_network
from dptrain.experiment.schema import Experiment, Settled
from dptrain.nn import numerical
from dptrain.nn.context import Meeting
from dptrain.nn.losses import AnyLoss
from dptrain.nn.network import Network
from dptrain.nn.numerical import NumericalPass
from dptrain.nn.passes import Pass, Replica, TargetForm
from dptrain.optim.rules import RULES
from dptrain.optim.schedules import AnySchedule, Constant, Cosine, Exponential, Step
from dptrain.optim.updater import Updater
from dptrain.own.network import OwnNetwork
from dptrain.own.origin import Origin, is_own
from dptrain.own.passes import OwnReplica

SPLITS = ("train", "validation", "test")


class Job:
    """A settled experiment with its data, and everything that follows from them.

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
        """Return the number of pieces into which the evaluation of a split is cut."""
        return -(-len(self.split(name)) // self.evaluation_rows)

    def r2(self, split: str, loss: float) -> float | None:
        """Return the coefficient of determination of a split, if it follows from the mean loss."""
        if self.dataset.classes or self.loss is None:
            return None
        error = self.loss.squared_error(loss, sum(self.dataset.target_shape))
        return None if error is None else determination(error, self._target_variance(split))

    def _target_variance(self, name: str) -> float:
        if name not in self._variances:
            self._variances[name] = variance(self.split(name).all_targets())
        return self._variances[name]

    def augmenter(self) -> Augmenter | None:
        """Return the augmentation of training samples, or None."""
        if not self.augmentation:
            return None
        return self.augmentation.bind(self.dataset.sample_shape, self.dtype, self.experiment.seed)

    def replica(
        self,
        versions: Sequence[NDArray[Any]],
        gradients: NDArray[Any] | None = None,
        meeting: Meeting | None = None,
    ) -> Replica | OwnReplica:
        """Return the network bound to flat parameter vectors; arguments as for `Replica`."""
        targets = TargetForm(self.dataset.target_shape, self.dataset.train.target_dtype(self.dtype))
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

        Only the coordinator needs it.
        """
        flat = self.network.initial_parameters(self.experiment.seed, self.dtype)
        if isinstance(self.network, Network):
            fit_normalisation(self.network, flat, self.dataset.train)
        return flat

    @cached_property
    def updater(self) -> Updater:
        """What turns reduced gradients into new parameters: optimizer, schedule, clipping."""
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


def plain_job(experiment: Experiment) -> dict[str, Any]:
    """Return a settled experiment as plain data for a message."""
    return dict(msgspec.to_builtins(experiment))
