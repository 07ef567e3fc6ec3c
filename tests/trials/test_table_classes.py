"""Classes of tables: forms of labels, and parts without rows of a class."""

import re
from pathlib import Path

import numpy as np
import pytest

import dptrain
from dptrain.cli.__main__ import main
from dptrain.data.class_doubts import class_doubts
from dptrain.data.csv_table import read_csv
from dptrain.data.prepared import prepare
from dptrain.errors import DataError

X = np.random.default_rng(0).standard_normal((200, 3))


def written(path: Path, labels: list[str]) -> Path:
    rows = [
        ",".join([*(f"{v:.4f}" for v in x), label]) for x, label in zip(X, labels, strict=False)
    ]
    path.write_text("\n".join(["a,b,c,label", *rows]) + "\n")
    return path


@pytest.fixture
def told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> "Told":
    return Told(tmp_path, capfd)


class Told:
    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capfd = folder, capfd

    def __call__(self, labels: list[str], *flags: str, steps: int = 1) -> str:
        """Train on a table with these labels; return what was said of it."""
        path = written(self.folder / "table.csv", labels)
        job = ["train", "--dataset", str(path), "--model", "linear", "--steps", str(steps)]
        job += ["--workers", "1", "--no-curves", "--out", str(self.folder / "run")]
        assert main([*job, *flags]) == 0
        return self.capfd.readouterr().err

    def evaluated(self) -> str:
        assert main(["evaluate", str(self.folder / "run")]) == 0
        return self.capfd.readouterr().out


def test_a_class_without_a_test_row_is_told_and_not_scored(told: Told) -> None:
    labels = ["1"] * 4 + ["0"] * 196
    message = told(labels, "--seed", "2", "--validation", "0.1")
    assert "no test row is of class '1', so that the test score tells nothing of it" in message
    row = next(line.split() for line in told.evaluated().splitlines() if line.startswith(" 1 "))
    assert row == ["1", "–", "–", "–", "0"]  # noqa: RUF001 - a dash


def test_a_class_in_the_test_part_alone_is_told(told: Told) -> None:
    message = told(["2", *["01"[i % 2] for i in range(199)]], "--seed", "5")
    assert "no training row is of class '2', which cannot be learnt" in message


def test_few_training_rows_miss_classes(told: Told) -> None:
    message = told([str(i % 20) for i in range(200)], "--train-rows", "8")
    assert "no training row is of classes '" in message
    assert re.search(r"' and \d+ more, which cannot be learnt; give another --seed", message)
    assert "no row is of" not in message


def test_parts_with_rows_of_all_classes_are_not_talked_of(told: Told) -> None:
    assert "row is of" not in told(["01"[i % 2] for i in range(200)])


def test_a_single_class_is_told(told: Told) -> None:
    assert "all training rows are of class 'a'" in told(["a"] * 20)


@pytest.mark.parametrize("loss", ["softmax-cross-entropy", "hinge", "binary-cross-entropy"])
def test_minus_one_and_one_are_two_classes(loss: str, told: Told) -> None:
    message = told(["1" if x[0] > 0 else "-1" for x in X], "--loss", loss, steps=100)
    assert "-> label ('-1', '1')" in message
    assert "table, 2 classes" in message


def test_they_are_numbers_where_numbers_are_to_be_predicted(told: Told) -> None:
    message = told(["1" if x[0] > 0 else "-1" for x in X], "--task", "regression")
    assert "table, regression" in message


def test_gaps_in_the_numbers_of_classes_are_told(told: Told) -> None:
    message = told([str(1 + i % 3) for i in range(60)])
    assert "no row is of class '0'; classes are numbered from 0" in message


def test_so_are_many(told: Told) -> None:
    message = told([str(10 * (1 + i % 3)) for i in range(60)])
    assert "no row is of classes '0', '1', '2', '3', '4' and 23 more" in message


def test_other_negative_labels_name_the_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", ["0", "1", "-3", "2"])
    with pytest.raises(DataError, match=r"line 4: the label -3 is negative.*--task regression"):
        read_csv(path, None)


def test_a_network_of_another_size_hears_of_classes_without_rows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.csv", ["12"[i % 2] for i in range(40)])
    assert main(["train", "--dataset", str(path), "--model", "mlp:3-2", "--workers", "1"]) == 2
    told = capfd.readouterr().err
    assert "has 3 classes" in told
    assert "no row is of class '0'; classes are numbered from 0" in told


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a", "b", "NA"], "the label 'NA' is taken for a class; where it says that a value is mi"),
        (["0", "1", "?"], "the label '?' is taken for a class"),
        (["a", "b", "nan"], "the label 'nan' is taken for a class"),
        (["yes", "no", "Yes"], "the labels 'Yes' and 'yes' are taken for two classes"),
        (["1", "2", "01", "x"], "the labels '01' and '1' are taken for two classes"),
    ],
)
def test_doubtful_classes_are_told(labels: list[str], words: str, told: Told) -> None:
    assert words in told([labels[i % len(labels)] for i in range(60)])


def test_others_are_not() -> None:
    assert not list(class_doubts(("0", "1", "10", "-1", "none", "NAND", "cat", "cats")))


def test_in_arrays_as_well(tmp_path: Path) -> None:
    net = dptrain.Network(3, [dptrain.Dense(3)])
    labels = np.array(["a", "b ", "b"])[np.arange(200) % 3]
    with pytest.warns(RuntimeWarning, match="the labels 'b' and 'b ' are taken for two classes"):
        dptrain.fit(net, (X, labels), steps=1, workers=1, progress=False, out=tmp_path / "run")


def test_what_is_no_label_among_too_many_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [str(1000 + i) for i in range(40)])
    with pytest.raises(DataError, match="or --label where another column of a table is the label"):
        prepare(str(path), dtype="float32")
