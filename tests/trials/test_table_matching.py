"""A table is understood once: whatever comes later is matched by its names, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.cli.__main__ import main
from dptrain.data.source import find_source, read_source
from dptrain.errors import DataError
from dptrain.trained import load_run

IRIS = find_source("iris").files[0]
LINES = IRIS.read_text().splitlines()
NAMES = LINES[0].split(",")[:4]
# the same rows, but another file: to a run on iris none of its own
OTHER = [LINES[0], *LINES[:0:-1]]

Verb = Callable[..., dict[str, Any]]
Refused = Callable[..., str]


def trained(table: Path | str, out: Path, *flags: str) -> Path:
    arguments = ["train", "--dataset", str(table), "--model", "linear", "--normalise", "standard"]
    arguments += ["--workers", "1", "--no-curves", "--steps", "30", "--out", str(out), *flags]
    assert main(arguments) == 0
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("iris", tmp_path_factory.mktemp("iris") / "run")


@pytest.fixture
def verb(capfd: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb with --json in this process; return its result, and what it told beside it."""

    def called(*arguments: object) -> dict[str, Any]:
        capfd.readouterr()
        assert main([*map(str, arguments), "--json"]) == 0
        out, err = capfd.readouterr()
        found: dict[str, Any] = json.loads(out)
        return found | {"told": err}

    return called


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Refused:
    def called(*arguments: object) -> str:
        capfd.readouterr()
        assert main([*map(str, arguments)]) != 0
        out, err = capfd.readouterr()
        assert not out
        return err

    return called


def written(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def picked(rows: list[str], order: list[int]) -> list[str]:
    cells = [row.split(",") for row in rows]
    return [",".join(each[i] for i in order) for each in cells]


def test_the_experiment_records_how_the_table_was_understood(run: Path) -> None:
    experiment = load_run(run, "last")[0].experiment
    assert (experiment.columns, experiment.label, experiment.header) == (NAMES, "species", True)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [4, 1, 0, 3, 2]])
def test_predict_finds_columns_by_name(
    order: list[int], run: Path, verb: Verb, tmp_path: Path
) -> None:
    right = verb(
        "predict", run, "--input", written(tmp_path / "a.csv", picked(LINES, [0, 1, 2, 3]))
    )
    table = written(tmp_path / "b.csv", picked(LINES, order))
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # as spreadsheets begin a file
    found = verb("predict", run, "--input", table)
    assert found["probabilities"] == right["probabilities"]
    assert ("right" in found) == (4 in order)


def test_columns_beside_are_left_out_and_told(run: Path, verb: Verb, tmp_path: Path) -> None:
    rows = [f"{'note' if i == 0 else 'x'},{line}" for i, line in enumerate(LINES)]
    found = verb("predict", run, "--input", written(tmp_path / "a.csv", rows))
    assert "left out" in found["told"]
    assert "note" in found["told"]


def test_evaluate_compress_and_frames_go_the_same_way(
    run: Path, verb: Verb, tmp_path: Path
) -> None:
    swapped = written(tmp_path / "swapped.csv", picked(OTHER, [3, 2, 1, 0, 4]))
    straight = written(tmp_path / "straight.csv", OTHER)
    right = verb("evaluate", run, "--dataset", straight)
    found = verb("evaluate", run, "--dataset", swapped)
    assert found["splits"] == right["splits"]
    assert sum(each["rows"] for each in found["splits"]["test"]["classes"]) == 150
    small = tmp_path / "small.npz"
    rows = verb("compress", run, "--bits", "8", "--out", small, "--dataset", swapped)["rows"]
    assert rows[0]["accuracy"] == right["test_accuracy"]
    assert verb("evaluate", small, "--dataset", swapped)["test_accuracy"] == rows[1]["accuracy"]


class Frame:
    """What is asked of a data frame: names of columns, and some of them by a list of names."""

    def __init__(self, columns: list[str], values: Any) -> None:
        self.columns, self.values = columns, np.asarray(values)

    def __getitem__(self, names: list[str]) -> "Frame":
        return Frame(names, self.values[:, [self.columns.index(name) for name in names]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.values


def test_a_data_frame_is_taken_by_the_names_of_its_columns(run: Path) -> None:
    network, _ = load_run(run, "last")
    x = np.array([[float(c) for c in line.split(",")[:4]] for line in LINES[1:]])
    right = network.predict(x)
    np.testing.assert_array_equal(network.predict(Frame(NAMES[::-1], x[:, ::-1])), right)
    with pytest.raises(DataError, match=r"no column 'petal_width_cm'.*did you mean 'petal_width'"):
        network.predict(Frame([*NAMES[:3], "petal_width"], x))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["petal_length_cm,petal_width", "1.4,0.2"], "did you mean 'petal_width'"),
        (["a,b,c,d", "1,2,3,4"], "has no column 'sepal_length_cm'"),
        (["5.1,,1.4,0.2", "6,2,5,1"], "line 1, column 2: empty"),
        (["5.1,NA,1.4,0.2", "6,2,5,1"], "line 1, column 2: 'NA' is not a number"),
        (["1_0,2,3,4", "3,2,1,1"], "line 1, column 1: '1_0' is not a number"),
        (["1;2", "3;4"], "has 2 columns and no header line"),
        ([LINES[0], LINES[1], "5,,1,1,setosa"], "line 3, column 'sepal_width_cm': empty"),
        (["1,2,3,4,0"], "has 5 columns and no header line"),
        ([",".join([*NAMES, NAMES[0]]), "1,2,3,4,5"], "2 columns are called 'sepal_length_cm'"),
    ],
)
def test_predict_refuses_by_name(
    rows: list[str], words: str, run: Path, refused: Refused, tmp_path: Path
) -> None:
    assert words in refused("predict", run, "--input", written(tmp_path / "a.csv", rows))


def test_numbers_alone_are_taken_in_order_and_that_is_told(
    run: Path, verb: Verb, tmp_path: Path
) -> None:
    right = verb("predict", run, "--input", written(tmp_path / "a.csv", LINES))
    bare = written(tmp_path / "b.csv", picked(LINES[1:], [0, 1, 2, 3]))
    found = verb("predict", run, "--input", bare)
    assert found["probabilities"] == right["probabilities"]
    assert "has no header line; its columns are taken for sepal_length_cm" in found["told"]


def test_classes_keep_the_numbers_of_the_run(
    run: Path, verb: Verb, refused: Refused, tmp_path: Path
) -> None:
    whole = verb("evaluate", run, "--dataset", written(tmp_path / "all.csv", OTHER))
    some = [line for line in LINES if "setosa" not in line]
    part = verb("evaluate", run, "--dataset", written(tmp_path / "bc.csv", some))
    one = [line for line in LINES if "setosa" not in line and "virginica" not in line]
    single = verb("evaluate", run, "--dataset", written(tmp_path / "b.csv", one))
    counts = np.array(whole["splits"]["test"]["confusion"])
    np.testing.assert_array_equal(part["splits"]["test"]["confusion"][1:], counts[1:])
    np.testing.assert_array_equal(single["splits"]["test"]["confusion"][1], counts[1])
    other = [line.replace("virginica", "virginca") for line in LINES]
    words = refused("evaluate", run, "--dataset", written(tmp_path / "o.csv", other))
    assert "line 102: the label 'virginca' is not a class of the run" in words
    assert "did you mean 'virginica'" in words


def test_so_do_classes_without_names(verb: Verb, refused: Refused, tmp_path: Path) -> None:
    numbers = {"setosa": "0", "versicolor": "1", "virginica": "2"}
    rows = [LINES[0], *(",".join([*r.split(",")[:4], numbers[r.split(",")[4]]]) for r in LINES[1:])]
    run = trained(written(tmp_path / "num.csv", rows), tmp_path / "run")
    fewer = written(tmp_path / "01.csv", [row for row in rows if not row.endswith(",2")])
    classes = verb("evaluate", run, "--dataset", fewer)["splits"]["test"]["classes"]
    assert [each["rows"] for each in classes] == [50, 50, 0]
    more = written(tmp_path / "3.csv", [*rows, "1,2,3,4,3"])
    assert "the label '3' is not a class of the run" in refused("evaluate", run, "--dataset", more)


def test_rows_of_the_run_itself_keep_their_parts(run: Path, verb: Verb, tmp_path: Path) -> None:
    found = verb("evaluate", run, "--dataset", "iris")["splits"]
    again = verb("evaluate", run)["splits"]
    assert found == again
    assert found.keys() == {"train", "test"}


def test_saved_weights_are_not_put_to_another_use_in_silence(
    run: Path, refused: Refused, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    swapped = written(tmp_path / "swapped.csv", picked(LINES, [3, 2, 1, 0, 4]))
    flags = ["train", "--dataset", str(swapped), "--init-from", str(run), "--steps", "1"]
    flags += ["--workers", "1", "--no-curves"]
    words = refused(*flags, "--out", tmp_path / "a")
    assert f"give --columns {','.join(NAMES)}" in words
    renamed = [line.replace("setosa", "rose") for line in LINES]
    flags[2] = str(written(tmp_path / "renamed.csv", renamed))
    assert main([*flags, "--out", str(tmp_path / "b")]) == 0
    assert "outputs stood for setosa, versicolor" in capfd.readouterr().err


def test_evaluate_refuses_what_it_cannot_match(run: Path, refused: Refused, tmp_path: Path) -> None:
    bare = written(tmp_path / "bare.csv", LINES[1:])
    assert "has no column 'sepal_length_cm'; it has '5.1', '3.5'" in refused(
        "evaluate", run, "--dataset", bare
    )
    unlabelled = written(tmp_path / "unlabelled.csv", picked(LINES, [0, 1, 2, 3]))
    assert "has no column 'species' for the label" in refused(
        "evaluate", run, "--dataset", unlabelled
    )
    assert (
        "t_train holds 5 in row 0 (counting from 0), which is not a class number: they are 0 to 2"
        in refused("evaluate", run, "--dataset", "mnist")
    )
    numbered = [row.replace("setosa", "0").replace("versicolor", "1") for row in LINES[1:101]]
    without = trained(written(tmp_path / "n.csv", numbered), tmp_path / "n", "--label", "last")
    wide = written(tmp_path / "wide.csv", picked(numbered, [0, 1, 2, 3, 3, 4]))
    for width in ([0, 1, 2, 4], [0, 1, 2, 3, 3, 4]):
        other = written(wide, picked(numbered, width))
        assert refused("evaluate", without, "--dataset", other)
        if len(width) > 4:
            assert "learnt from 4 of a table" in refused("predict", without, "--input", other)


def test_whole_numbers_stay_numbers_to_predict_where_the_run_learnt_such(
    verb: Verb, tmp_path: Path
) -> None:
    prices = [f"{i},{(7 * i) % 11},{3 * i + 0.5}" for i in range(60)]
    run = trained(written(tmp_path / "a.csv", ["area,rooms,price", *prices]), tmp_path / "run")
    whole = [f"{3 * i},{(7 * i) % 11},{i}" for i in range(20)]
    table = written(tmp_path / "b.csv", ["price,rooms,area", *whole])
    found = verb("evaluate", run, "--dataset", table)
    assert found["splits"].keys() == {"test"}
    predicted = verb("predict", run, "--input", table)["outputs"]
    blank = [f"{row.rpartition(',')[0]}," for row in prices]  # as of rows that nobody has priced
    unpriced = written(tmp_path / "c.csv", ["area,rooms,price", *blank])
    again = verb("predict", run, "--input", unpriced)["outputs"]
    np.testing.assert_array_equal(predicted, again[:20])


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table whose columns are called 0, 1, 2, as a data frame without names is saved."""
    folder = tmp_path_factory.mktemp("numbered")
    rows = [f"{i % 7},{i % 5}.5,{i % 2}" for i in range(40)]
    return trained(written(folder / "a.csv", ["0,1,2", *rows]), folder / "run")


def test_names_that_are_numbers_are_no_places(
    numbered: Path, refused: Refused, tmp_path: Path
) -> None:
    later = written(tmp_path / "later.csv", ["0,9,2", "3,1.5,0", "4,2.5,1"])
    assert "has no column '1'" in refused("evaluate", numbered, "--dataset", later)
    words = written(tmp_path / "words.csv", ["a,b,c", "3,1.5,0", "4,2.5,1"])
    assert "has no column '0'; it has 'a', 'b', 'c'" in refused(
        "evaluate", numbered, "--dataset", words
    )


def test_a_row_is_not_taken_for_names_in_another_order(
    numbered: Path, refused: Refused, verb: Verb, tmp_path: Path
) -> None:
    bare = written(tmp_path / "bare.csv", ["1,0", "3,1.5"])
    message = refused("predict", numbered, "--input", bare)
    assert (
        "the first line, 1,0, may name the columns or be a row; give them in the order" in message
    )
    named = written(tmp_path / "named.csv", ["0,1", "3,1.5"])
    assert len(verb("predict", numbered, "--input", named)["classes"]) == 1


def test_a_column_is_learnt_from_once(refused: Refused, tmp_path: Path) -> None:
    table = written(tmp_path / "a.csv", LINES)
    message = refused(
        "train", "--dataset", table, "--columns", f"{NAMES[0]},1", "--model", "linear"
    )
    assert f"columns names '{NAMES[0]}' twice; name it once" in message


@pytest.mark.parametrize(
    "rows",
    [
        ["height;h, in cm;kind", "1.5;2.5;0", "3.5;4.5;1"],
        ["h, in cm;height;kind", "", "1.5;2.5;0", "3.5;4.5;1"],
        ['"a;b;c;d","e",kind', "1.5,2.5,0", "3.5,4.5,1"],
        ['"a', 'b",c,kind', "1.5,2.5,0", "3.5,4.5,1"],
    ],
)
def test_what_separates_cells_does_so_in_each_line(rows: list[str], tmp_path: Path) -> None:
    found = read_source(str(written(tmp_path / "a.csv", rows)), None)
    np.testing.assert_array_equal(found.x_train, [[1.5, 2.5], [3.5, 4.5]])


def test_decimal_commas_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", ["0,126;-0,132;1", "0,5;1,25;0"])
    with pytest.raises(DataError, match=r"'0,126' is not a number; write 0.126, with a point"):
        read_source(str(path), None)
