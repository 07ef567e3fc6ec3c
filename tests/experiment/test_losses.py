"""The settings of losses: filled in, handed on, and refused where they mean nothing."""

from typing import Any

import pytest

from dptrain.errors import UsageError
from dptrain.experiment.defaults import settle
from dptrain.experiment.models import build_loss
from dptrain.experiment.override import override
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.nn.losses import LOSSES, AnyLoss, BinaryCrossEntropy, Huber, SoftmaxCrossEntropy


def settled(classes: int = 3, **settings: Any) -> Experiment:
    """Return an experiment settled for a data set with these classes."""
    return settle(build(Experiment, settings, "the test"), 1, classes, 100, "0" * 64)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, SoftmaxCrossEntropy()),
        ({"label_smoothing": 0.1}, SoftmaxCrossEntropy(0.1)),
        ({"class_weights": [1, 2.5, 1]}, SoftmaxCrossEntropy(0.0, (1.0, 2.5, 1.0))),
        ({"loss": "binary-cross-entropy", "positive_weight": 2}, BinaryCrossEntropy(2.0)),
        ({"loss": "huber", "huber_delta": 0.5}, Huber(0.5)),
        *(({"loss": name}, kind()) for name, kind in LOSSES.items()),
    ],
)
def test_losses_from_settings(settings: dict[str, Any], expected: AnyLoss) -> None:
    assert build_loss(settled(**settings)) == expected


def test_the_default_fits_the_targets() -> None:
    assert settled(classes=3).loss == "softmax-cross-entropy"
    assert settled(classes=0).loss == "sum-of-squares"


def test_defaults_are_written_down() -> None:
    assert settled().label_smoothing == 0
    assert settled().huber_delta is settled().positive_weight is None
    assert settled(loss="huber").huber_delta == 1
    assert settled(loss="binary-cross-entropy").positive_weight == 1


def test_experiments_recorded_before_there_were_settings() -> None:
    assert build_loss(Experiment(loss="softmax-cross-entropy")) == SoftmaxCrossEntropy()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"label_smoothing": 0.0, "loss": "hinge"},
            "label_smoothing=0.0 means nothing to loss hinge; it is for softmax-cross-entropy",
        ),
        ({"class_weights": [1.0], "loss": "huber"}, r"class_weights=\[1.0\] means nothing"),
        ({"positive_weight": 2.0}, "nothing to loss softmax-cross-entropy; it is for binary-"),
        ({"huber_delta": 2.0, "loss": "sum-of-squares"}, "it is for huber"),
    ],
)
def test_settings_of_other_losses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settled(**settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("class_weights", [1.0, 0.0]),
        ("class_weights", [1.0, float("nan")]),
        ("class_weights", 1.0),
        ("positive_weight", 0.0),
        ("huber_delta", -1.0),
        ("l1", -0.1),
    ],
)
def test_values_out_of_range(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{key}="):
        build(Experiment, {key: value}, "the test")


def test_another_loss_does_not_inherit_settings() -> None:
    earlier = {"loss": "huber", "huber_delta": 0.5, "lr": 0.1}
    assert override(earlier, {"loss": "hinge"}) == {"loss": "hinge", "lr": 0.1}
    assert override(earlier, {"loss": "huber"}) == earlier
