"""What a run's records come to."""

import pytest

from dptrain.metrics.records import Gap, Record, end_of, gap_of, result_of
from tests.metrics.records import a_step, an_end, an_epoch


def test_the_result_is_that_of_the_last_epoch_or_of_the_one_restored() -> None:
    epochs: list[Record] = [an_epoch(1), a_step(15), an_epoch(2), an_epoch(3)]
    assert result_of(epochs) == an_epoch(3)
    assert result_of([*epochs, an_end(3, 2)]) == an_epoch(2)
    assert result_of([a_step(1)]) is None
    assert end_of([*epochs, an_end(3, 2)]) == an_end(3, 2)
    assert end_of(epochs) is None
    assert end_of([]) is None


def test_the_gap_is_to_validation_rows_or_else_to_test_rows() -> None:
    split = an_epoch(2, validation_loss=0.75, validation_accuracy=0.5)
    assert gap_of(split) == Gap("validation", 0.25, 0.25)
    tested = gap_of(an_epoch(2))
    assert tested is not None
    assert tested.unseen == "test"
    assert (tested.loss, tested.accuracy) == pytest.approx((0.05, 0.05))
    regression = an_epoch(2, train_accuracy=None, test_accuracy=None, test_loss=1.0)
    assert gap_of(regression) == Gap("test", 0.5, None)
    assert gap_of(an_epoch(2, test_loss=None, test_accuracy=None)) is None
    assert gap_of(an_epoch(2, train_loss=None)) is None
