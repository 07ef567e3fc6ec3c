"""What is drawn of a run's records."""

from typing import Any

import numpy as np

from dptrain.report.series import POINTS_PER_LINE, series_of, thinned
from tests.metrics.records import a_step, an_end, an_epoch


def test_records_become_points() -> None:
    series = series_of("run", [a_step(5), a_step(10), an_epoch(1), a_step(15), an_epoch(2)])
    np.testing.assert_array_equal(series.steps, [[0.5, 1 / 5], [1, 1 / 10], [1.5, 1 / 15]])
    train, test, validation = series.losses
    np.testing.assert_array_equal(train, [[1, 1.0], [2, 0.5]])
    np.testing.assert_array_equal(test, [[1, 1.1], [2, 0.55]])
    assert validation.shape == (0, 2)
    np.testing.assert_array_equal(series.accuracies[0], [[1, 0.5], [2, 0.75]])
    np.testing.assert_array_equal(series.accuracies[1], [[1, 0.4], [2, 0.7]])
    assert series.end == 2


def test_what_is_unknown_is_no_point() -> None:
    series = series_of("run", [a_step(1, loss=None), a_step(2), an_epoch(3, train_loss=None)])
    np.testing.assert_array_equal(series.steps, [[0.2, 0.5]])
    assert series.losses[0].shape == (0, 2)
    assert series_of("run", []).end == 0


def test_the_result_is_of_the_last_epoch_and_of_unseen_data() -> None:
    unknown: dict[str, Any] = {"test_accuracy": None, "test_loss": None}
    trained: dict[str, Any] = {**unknown, "train_accuracy": None}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "test accuracy 0.7000"),
        ({**unknown, "validation_accuracy": 0.25}, "validation accuracy 0.2500"),
        (unknown, "train accuracy 0.7500"),
        ({**trained, "test_loss": 1234.5678}, "test loss 1235"),
        ({**trained, "validation_loss": 1.5e-9}, "validation loss 1.5e-09"),
        (trained, "train loss 0.5"),
        ({**trained, "train_loss": None}, ""),
    ]
    for changes, result in cases:
        assert series_of("run", [an_epoch(1), an_epoch(2, **changes)]).result == result
    assert series_of("run", [a_step(1)]).result == ""


def test_thinning_keeps_order_and_extremes() -> None:
    random = np.random.default_rng(0)
    for count in (POINTS_PER_LINE, POINTS_PER_LINE + 1, 12_345):
        points = np.stack([np.arange(count), random.standard_normal(count)], axis=1)
        points[count // 3, 1], points[count // 2, 1] = 99, -99
        few = thinned(points)
        assert len(few) <= POINTS_PER_LINE
        assert (np.diff(few[:, 0]) >= 0).all()
        assert {99, -99} <= set(few[:, 1])
        assert {tuple(point) for point in few} <= {tuple(point) for point in points}
    assert len(thinned(points[:POINTS_PER_LINE])) == POINTS_PER_LINE


def test_the_gap_is_to_validation_rows_where_there_are_any() -> None:
    plain = series_of("run", [an_epoch(1), an_epoch(2)])
    np.testing.assert_array_equal(plain.gaps[0], [[1, 1.0, 1.1], [2, 0.5, 0.55]])
    np.testing.assert_array_equal(plain.gaps[1], [[1, 0.5, 0.4], [2, 0.75, 0.7]])
    assert (plain.gap, plain.best) == ("gap 0.050 at epoch 2", None)
    seen: dict[str, Any] = {"validation_loss": 2.0, "validation_accuracy": 0.25}
    split = series_of("run", [an_epoch(1), an_epoch(2, **seen), an_epoch(3), an_end(3, 2)])
    np.testing.assert_array_equal(split.gaps[0], [[2, 0.5, 2.0]])
    np.testing.assert_array_equal(split.gaps[1], [[2, 0.75, 0.25]])
    assert (split.gap, split.best) == ("gap 0.500 at epoch 2", 2)
    assert split.result == "test accuracy 0.7000", "of the epoch that was restored"


def test_without_unseen_rows_there_is_no_gap() -> None:
    unknown: dict[str, Any] = {"test_accuracy": None, "test_loss": None}
    series = series_of("run", [an_epoch(1, **unknown)])
    assert [each.shape for each in series.gaps] == [(0, 3), (0, 3)]
    assert series.gap == series_of("run", []).gap == ""
    regression: dict[str, Any] = {"train_accuracy": None, "test_accuracy": None}
    assert series_of("run", [an_epoch(1, **regression)]).gap == "gap 0.1 at epoch 1"
