"""Records to write in tests."""

from typing import Any

from dptrain.metrics.records import EndRecord, EpochRecord, StepRecord


def a_step(step: int, **changes: Any) -> StepRecord:
    fields: dict[str, Any] = {
        "step": step,
        "epoch": step / 10,
        "loss": 1 / step,
        "lr": 0.1,
        "samples_per_second": 1e5,
        "compute_seconds": 1e-3,
        "exchange_seconds": 1e-4,
        "wait_seconds": 5e-5,
        "update_seconds": 1e-5,
    }
    return StepRecord(**fields | changes)


def an_epoch(epoch: int, **changes: Any) -> EpochRecord:
    fields: dict[str, Any] = {
        "epoch": epoch,
        "step": 10 * epoch,
        "train_loss": 1 / epoch,
        "train_accuracy": 1 - 0.5 / epoch,
        "validation_loss": None,
        "validation_accuracy": None,
        "test_loss": 1.1 / epoch,
        "test_accuracy": 1 - 0.6 / epoch,
        "lr": 0.1,
        "seconds": 2.5,
        "samples_per_second": 24e3,
        "digest": "ab" * 32,
    }
    return EpochRecord(**fields | changes)


def an_end(epoch: int, best: int, *, early: bool = True) -> EndRecord:
    return EndRecord(
        epoch=epoch,
        step=10 * epoch,
        best_epoch=best,
        best_step=10 * best,
        stopped_early=early,
        digest="ab" * 32,
    )
