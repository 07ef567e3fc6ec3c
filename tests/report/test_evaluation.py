"""Tables of classes: a matrix where it fits, the worst and the mistakes where it does not."""

import numpy as np
import pytest

from dptrain.evaluation.classification import Classification, classification
from dptrain.evaluation.regression import regression
from dptrain.report.evaluation import print_classes, print_confusion, score_line


def answered(classes: int, name: str = "{}") -> Classification:
    """Return answers of which one of class 0 is wrong, and all of class 1, as the class after."""
    t = np.repeat(np.arange(classes), 5)
    y = t.copy()
    y[0] = 1
    y[5:10] = 2
    return classification(t, y, [name.format(i) for i in range(classes)])


def test_one_line() -> None:
    assert score_line(regression([1, 2, 3, 6], [0, 3, 3, 4])) == "R² 0.5714, RMSE 1.22474, MAE 1"
    assert score_line(regression([1, 1], [1, 1])) == "R² not defined, RMSE 0, MAE 0"
    assert score_line(answered(3)) == "60.00% correct, macro F1 0.5185"


def test_few_classes_make_a_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(3)
    print_classes(found, "test")
    print_confusion(found, "test")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0", "1.0000", "0.8000", "0.8889", "5"] in lines
    assert ["1", "0.0000", "0.0000", "0.0000", "5"] in lines
    assert ["macro", "average", "0.5000", "0.6000", "0.5185", "15"] in lines
    for row in (["0", "4", "1", "·"], ["1", "·", "·", "5"], ["2", "·", "·", "5"]):
        assert row in lines


@pytest.mark.parametrize(("classes", "name"), [(30, "{}"), (9, "a long name {}")])
def test_more_than_fit_make_a_list_of_mistakes(
    classes: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answered(classes, name)
    print_classes(found, "test")
    print_confusion(found, "test")
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.split() for line in text.splitlines()]
    one, two = name.format(1).split(), name.format(2).split()
    assert [*one, *two, "5"] in lines
    assert sum(line[:-4] == one for line in lines) == 1, "the worst class is shown"
    assert ("lowest F1" in text) == (classes > 20)
    assert "matrix" not in text


def test_without_mistakes_there_is_no_list_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    t = np.arange(30)
    print_confusion(classification(t, t, [str(i) for i in t]), "test")
    assert capsys.readouterr().out == ""
