"""What a search is after."""

import pytest

from dptrain.errors import UsageError
from dptrain.tune.objective import available, check_measured, metric_name, parse_goals
from tests.tune.build import record


def test_goals_of_the_notes() -> None:
    goals = parse_goals("train>=.99,test>=.97")
    assert [(g.metric.name, g.bound) for g in goals] == [
        ("train_accuracy", 0.99),
        ("test_accuracy", 0.97),
    ]
    both = record(1, train_accuracy=0.99, test_accuracy=0.9706)
    one = record(1, train_accuracy=0.9989, test_accuracy=0.9699)
    assert [[g.met(r) for g in goals] for r in (both, one)] == [[True, True], [True, False]]
    assert not goals[0].met(record(1))


def test_goals_of_a_regression() -> None:
    (goal,) = parse_goals(" test_loss <= .1")
    assert goal.met(record(1, test_loss=0.1))
    assert not goal.met(record(1, test_loss=0.11))


def test_what_is_measured_and_what_of_it_is_chosen_by() -> None:
    assert available(["train", "validation", "test"], 10)[0] == "validation_accuracy"
    assert available(["train", "test"], 10)[:2] == ["test_accuracy", "train_accuracy"]
    assert available(["train", "test"], 0) == ["test_loss", "train_loss"]
    assert available(["train"], 10) == ["train_accuracy", "train_loss"]


def test_more_is_better_or_less() -> None:
    assert metric_name("test").merit(0.5) > metric_name("test").merit(0.4)
    assert metric_name("test_loss").merit(0.4) > metric_name("test_loss").merit(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train", "in quotes, since >"),
        ("train>.9", "in quotes, since >"),
        ("train>=x", "is not a goal"),
        ("trian>=.9", "did you mean 'train"),
        ("train>=.9,", "is not a goal"),
    ],
)
def test_goals_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_goals(text)


def test_measures_that_will_not_be_there() -> None:
    with pytest.raises(UsageError, match=r"give --validation 0\.1, or choose from: test_accuracy"):
        check_measured([metric_name("validation_loss")], ["test_accuracy"])
    with pytest.raises(UsageError, match="did you mean 'validation_loss'"):
        metric_name("validaton_loss")
