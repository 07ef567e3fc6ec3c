"""What a run tells about itself while it trains: one record per logged step and per epoch."""

import msgspec


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

    step: int
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
    step: int
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


Record = StepRecord | EpochRecord
