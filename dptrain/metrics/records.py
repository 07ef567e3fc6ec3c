"""What a run tells about itself while it trains: one record per logged step and per epoch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from dptrain.arithmetic.platform import Arithmetic

Count = Annotated[int, msgspec.Meta(ge=0)]


class StepRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="step"):
    """One logged step.

    Attributes:
        step: steps done, this one included.
        epoch: the same in epochs, such as 1.5 for the middle of the second.
        loss: mean over the step's minibatch; None in the file when it was not finite.
        lr: learning rate of the step.
        samples_per_second: rows trained on per second since the record before.
        compute_seconds: per step, forward and backward passes.
        exchange_seconds: per step, moving gradients, weights and messages.
        wait_seconds: per step, waiting for other ranks.
        update_seconds: per step, finishing the sums and applying the optimizer.
    """

    step: Count
    epoch: float
    loss: float | None
    lr: float | None
    samples_per_second: float | None
    compute_seconds: float | None
    exchange_seconds: float | None
    wait_seconds: float | None
    update_seconds: float | None


class EpochRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="epoch"):
    """One completed epoch. What was not measured is None, as is what was not finite.

    Attributes:
        epoch: epochs done; a fraction at the end of a run of so many steps.
        step: steps done.
        train_loss: mean over the training rows.
        train_accuracy: share of the training rows, 0 to 1; None for a regression.
        validation_loss: as above, over the validation rows.
        validation_accuracy: as above, over the validation rows.
        test_loss: as above, over the test rows.
        test_accuracy: as above, over the test rows.
        lr: learning rate of the epoch's last step.
        seconds: time of the epoch's training steps.
        samples_per_second: rows trained on per second in this epoch.
        digest: SHA-256, in hex, of the parameters after this epoch.
        train_r2: coefficient of determination over the training rows; None unless it is a
            regression whose loss is a sum of squares.
        validation_r2: as above, over the validation rows.
        test_r2: as above, over the test rows.
    """

    epoch: float
    step: Count
    train_loss: float | None
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    lr: float | None
    seconds: float | None
    samples_per_second: float | None
    digest: str
    train_r2: float | None = None
    validation_r2: float | None = None
    test_r2: float | None = None


class EndRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="end"):
    """The end of training with early stopping; the best epoch's weights are the result.

    Attributes:
        epoch: epochs done.
        step: steps done.
        best_epoch: the one whose weights were restored.
        best_step: likewise.
        stopped_early: whether epochs were left to do.
        digest: SHA-256, in hex, of the restored parameters.
    """

    epoch: float
    step: Count
    best_epoch: float
    best_step: Count
    stopped_early: bool
    digest: str


class DigestRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="digests"):
    """The weights after a logged step, where a run records digests.

    Attributes:
        step: steps done.
        epoch: the same in epochs.
        tensors: SHA-256, in hex, of the bytes of each tensor, by name.
    """

    step: Count
    epoch: float
    tensors: dict[str, str]


class ProlongedRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="prolonged"):
    """The run was continued with another number of steps to do, by which a schedule may go.

    Attributes:
        step: steps done before.
        epoch: the same in epochs.
        epochs: the experiment's, from this step on.
        steps: the experiment's, from this step on.
    """

    step: Count
    epoch: float
    epochs: int | None
    steps: int | None


class ArithmeticRecord(msgspec.Struct, frozen=True, tag_field="kind", tag="arithmetic"):
    """How the steps from here on are computed: at the beginning, and where it changes.

    Attributes:
        step: steps done before.
        epoch: the same in epochs.
        fingerprint: as the other attributes, see `dptrain.arithmetic.platform.Arithmetic`.
        numpy: likewise.
        blas: likewise.
        cpu: likewise.
    """

    step: Count
    epoch: float
    fingerprint: str
    numpy: str
    blas: str
    cpu: str

    @property
    def arithmetic(self) -> Arithmetic:
        """What is told."""
        return Arithmetic(self.fingerprint, self.numpy, self.blas, self.cpu)


Record = StepRecord | EpochRecord | EndRecord | DigestRecord | ProlongedRecord | ArithmeticRecord


def arithmetic_in_force(records: Sequence[Record]) -> Arithmetic | None:
    """Return how a run's last steps were computed; None where it did not record that."""
    found = (each.arithmetic for each in reversed(records) if isinstance(each, ArithmeticRecord))
    return next(found, None)


def steps_in_force(
    begun: Mapping[str, Mapping[str, Any]], records: Sequence[Record]
) -> tuple[int | None, int | None]:
    """Return the epochs and the steps that a run was last told to do.

    Args:
        begun: the tables of its experiment.toml.
        records: of the run.
    """
    for each in reversed(records):
        if isinstance(each, ProlongedRecord):
            return each.epochs, each.steps
    return begun["experiment"].get("epochs"), begun["experiment"].get("steps")


def end_of(records: Sequence[Record]) -> EndRecord | None:
    """Return how training with early stopping ended, if it did."""
    last = records[-1] if records else None
    return last if isinstance(last, EndRecord) else None


def result_of(records: Sequence[Record]) -> EpochRecord | None:
    """Return the evaluation of the weights that a run came to.

    That of the last epoch, or of the best one where early stopping restored it.
    """
    epochs = [each for each in records if isinstance(each, EpochRecord)]
    end = end_of(records)
    if end is not None:
        epochs = [each for each in epochs if each.step == end.best_step]
    return epochs[-1] if epochs else None


class Gap(NamedTuple):
    """By how much a run does better on the rows it was trained on than on unseen ones.

    Attributes:
        unseen: ``"validation"``, or ``"test"`` where no validation rows were held out.
        loss: loss on unseen rows minus loss on training rows.
        accuracy: accuracy on training rows minus accuracy on unseen rows; None for a regression.
    """

    unseen: str
    loss: float
    accuracy: float | None


def gap_of(record: EpochRecord) -> Gap | None:
    """Return the gap after an epoch; None where it is unknown."""
    for unseen, loss, accuracy in (
        ("validation", record.validation_loss, record.validation_accuracy),
        ("test", record.test_loss, record.test_accuracy),
    ):
        if loss is not None and record.train_loss is not None:
            best = record.train_accuracy
            ahead = None if best is None or accuracy is None else best - accuracy
            return Gap(unseen, loss - record.train_loss, ahead)
    return None
