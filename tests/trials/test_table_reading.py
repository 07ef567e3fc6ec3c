"""How a table is understood: header, label and features are told apart, or asked for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.cli.__main__ import main
from dptrain.data.csv_table import read_csv, table_form
from dptrain.data.source import read_source
from dptrain.errors import DataError
from dptrain.trained import load_run


def table(path: Path, text: str) -> Path:
    path = path / "table.csv"
    path.write_text(text)
    return path


def form(tmp_path: Path, text: str, label: str | None = None, **settings: Any) -> tuple[Any, ...]:
    found = table_form(
        table(tmp_path, text), label, settings.get("columns"), settings.get("header")
    )
    return found.header, found.columns, found.label, found.left_out


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("0,1,2,3\n5,6,7,0\n6,7,8,1\n", True),
        (",0,1,2\n0,5,6,1\n1,7,8,0\n", True),
        ("1,2,3\n5,6,0\n", False),
        ("5,6,rose\n7,8,iris\n", False),
        ("a,b,kind\n7,8,iris\n", True),
    ],
)
def test_the_header_is_told_from_a_row(text: str, header: bool, tmp_path: Path) -> None:
    assert form(tmp_path, text)[0] is header


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,1\n5,0\n6,1\n", "may name the columns or be a row; give --header or --no-header"),
        ("1,2,3,4\n5,6,7,0\n6,5,7,1\n", "1,2,3,4, may name the columns or be a row"),
        ("5.1,,1\n6,2,0\n", "line 1, column 2: '' is not a number.*--no-header"),
        ("5.1,NA,1\n6,2,0\n", "line 1, column 2: 'NA' is not a number"),
        ("id,2019,2020\n1,5,6\n", "line 1, column 1: 'id' is not a number.*--header"),
    ],
)
def test_a_first_line_that_may_be_either_is_asked_about(
    text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        form(tmp_path, text)
    assert form(tmp_path, text, header=True)[0]
    assert not form(tmp_path, text, header=False)[0]


def test_no_row_is_lost_or_added_where_it_is_said(tmp_path: Path) -> None:
    path = table(tmp_path, "0,1,2\n5,6,0\n7,8,1\n")
    assert len(read_csv(path, None).x_train) == 2
    assert len(read_csv(path, None, header=False).x_train) == 3


@pytest.mark.parametrize(
    ("header", "label"),
    [
        ("x,y,z,price", ("y", "price")),
        ("class,age,fare", ("class", "fare")),
        ("t,a,b", ("t", "b")),
        ("label,a,target,b", ("label", "target")),
    ],
)
def test_a_label_that_may_be_either_is_asked_about(
    header: str, label: tuple[str, str], tmp_path: Path
) -> None:
    row = ",".join(map(str, range(1, header.count(",") + 2)))
    text = f"{header}\n{row}\n{row}\n"
    with pytest.raises(DataError, match=rf"may be '{label[0]}'.*--label {label[0]} or --label"):
        form(tmp_path, text)
    assert [form(tmp_path, text, each)[2] for each in label] == [*label]
    others = [name for name in header.split(",") if name not in label]
    if len(others) > 1:  # whoever names the features has said what the label is not
        assert form(tmp_path, text, columns=[*others, label[0]])[2] == label[1]


@pytest.mark.parametrize(
    ("header", "row", "label"),
    [
        ("a,b,species", "1,2,rose", "species"),
        ("species,a,b", "rose,1,2", "species"),
        ("label,p0,p1", "3,0,0", "label"),
        ("x,t,y", "1,2,3", "y"),
        ("y,a,kind", "1,2,rose", "kind"),
        ("a,b,c", "1,2,3", "c"),
    ],
)
def test_a_label_that_can_be_but_one_is_found(
    header: str, row: str, label: str, tmp_path: Path
) -> None:
    assert form(tmp_path, f"{header}\n{row}\n{row}\n")[2] == label


@pytest.mark.parametrize("label", ["first", "1", "column 1"])
def test_the_label_by_its_place(label: str, tmp_path: Path) -> None:
    path = table(tmp_path, "7,0.5,0.25\n3,0.125,1\n")
    data = read_csv(path, label)
    np.testing.assert_array_equal(data.t_train, [7, 3])
    np.testing.assert_array_equal(data.x_train, [[0.5, 0.25], [0.125, 1]])
    with pytest.raises(DataError, match="count from 1 to 3"):
        read_csv(path, "0")
    named = table(tmp_path, "1,last,9\n5,6,0\n")
    assert table_form(named, "last", None, True).label == "last", "a name comes before a place"
    assert table_form(named, "9", None, True).label == "9"


@pytest.mark.parametrize(
    ("first", "left_out"),
    [("", "column 1"), ("Unnamed: 0", "Unnamed: 0"), ("Id", "Id"), ("index", "index")],
)
def test_columns_that_number_the_rows_are_left_out(
    first: str, left_out: str, tmp_path: Path
) -> None:
    rows = [f"{900 - 7 * i},{i % 5},{i % 2}" for i in range(30)]
    found = form(tmp_path, "\n".join([f"{first},a,label", *rows]))
    assert found == (True, ("a",), "label", (left_out,))
    named = form(tmp_path, "\n".join([f"{first},a,label", *rows]), columns=["1", "a"])
    assert named[1] == (left_out, "a"), "whoever names it wants it"


def test_a_name_alone_leaves_nothing_out(tmp_path: Path) -> None:
    assert form(tmp_path, "id,a,label\n1,2,0\n1,3,1\n")[1] == ("id", "a")
    assert form(tmp_path, "id,a,label\n1.5,2,0\n2.5,3,1\n")[1] == ("id", "a")


def test_row_names_as_r_writes_them_are_asked_for(tmp_path: Path) -> None:
    text = 'a,b,label\n"1",5,6,0\n"2",7,8,1\n'
    with pytest.raises(DataError, match=r"line 2 has 4 cells.*begin the header with a comma"):
        read_csv(table(tmp_path, text), None)
    assert form(tmp_path, "," + text) == (True, ("a", "b"), "label", ("column 1",))


def test_what_hardly_is_a_feature_is_told(tmp_path: Path) -> None:
    rows = [f"{i},{5 - i % 2},{i * i % 7},{i % 2}" for i in range(20)]
    count, repeats = read_csv(table(tmp_path, "\n".join(["nr,twin,c,label", *rows])), None).notes
    assert "'nr' counts the rows" in count
    assert "'twin' repeats the label" in repeats
    fractions = [f"{i * i},{i / 3 + 0.1}" for i in range(20)]
    assert not read_csv(table(tmp_path, "\n".join(["a,price", *fractions])), None).notes


def test_a_run_tells_what_it_learns_from(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [f"{i},{i % 5},{i % 3},{'ab'[i % 2]}" for i in range(40)]
    path = table(tmp_path, "\n".join(["id,x,y,kind", *rows]))
    flags = ["--model", "linear", "--workers", "1", "--no-curves", "--steps", "1"]
    run = tmp_path / "run"
    assert main(["train", "--dataset", str(path), *flags, "--out", str(run)]) == 0
    told = capfd.readouterr().err
    assert "columns   x, y -> kind ('a', 'b'); named by the header" in told
    assert "left out as they number the rows: id" in told
    experiment = load_run(run, "last")[0].experiment
    assert (experiment.columns, experiment.label) == (["x", "y"], "kind")
    assert main(["train", "--resume", str(run), "--steps", "3"]) == 0
    assert main(["verify", str(run)]) == 0


@pytest.mark.parametrize(("mark", "name"), [(";", "a.csv"), ("\t", "a.csv"), ("\t", "a.tsv")])
def test_other_separators(mark: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("a,b,kind\n1,2,iris\n3,4,rose\n   \n".replace(",", mark))
    data = read_source(str(path), None)
    np.testing.assert_array_equal(data.x_train, [[1, 2], [3, 4]])
    assert data.class_names == ("iris", "rose")


@pytest.mark.parametrize("encoding", ["cp949", "shift_jis", "utf-16"])
def test_other_encodings_say_what_to_do(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a b.csv"
    path.write_text("a,品種\n1,2\n", encoding=encoding)
    likely = "UTF-16" if encoding == "utf-16" else "CP949"
    with pytest.raises(DataError, match=r"not a text file in UTF-8.*save it as CSV UTF-8") as told:
        read_csv(path, None)
    assert f"iconv -f {likely} -t UTF-8 '{path}' > utf8.csv" in str(told.value)


def test_all_cells_that_hold_no_number_are_counted(tmp_path: Path) -> None:
    text = "a,town,c,label\n1,Ulm,3,0\n4,Bonn,?,1\n7,Ulm,,0\n"
    with pytest.raises(
        DataError, match=r"line 2, column 'town': 'Ulm' is not a number; 3 rows"
    ) as e:
        read_csv(table(tmp_path, text), None)
    assert "in 'town' (3), 'c' (2); mend them or take these rows out, or name" in str(e.value)
    data = read_csv(table(tmp_path, text), None, ["a"])
    np.testing.assert_array_equal(data.x_train, [[1], [4], [7]])
    with pytest.raises(DataError, match=r"line 3, column 'c': '\?' is not a number; 2 rows"):
        read_csv(table(tmp_path, text), None, ["a", "c"])
    with pytest.raises(DataError, match=r"column 'b': '1,5' is not a number; write 1.5, with a"):
        read_csv(table(tmp_path, "a;b;c\n1;1,5;0\n"), None)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("1,234", "write 1234, or 1.234 if the comma is the decimal point"),
        ("-12,000", "write -12000, or -12.000 if"),
        ("1,234.5", "write 1234.5, without commas"),
        ("1,234,567", "write 1234567, without commas"),
        ("12,5", "write 12.5, with a point"),
        ("1,2,3", "is not a number; mend it"),
    ],
)
def test_commas_that_group_thousands_are_no_points(cell: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        read_csv(table(tmp_path, f"a;b;label\n{cell};2;0\n"), None)


def test_a_column_of_words_may_be_the_label(tmp_path: Path) -> None:
    text = "cat,1.5,2\ndog,2.5,3\n"
    with pytest.raises(DataError, match=r"if 'column 1' is the label, give --label 'column 1'$"):
        read_csv(table(tmp_path, text), None)
    assert read_csv(table(tmp_path, text), "column 1").class_names == ("cat", "dog")
    with pytest.raises(DataError, match=r"with --columns$"):
        read_csv(table(tmp_path, "town,b,label\nUlm,1,0\nBonn,2,1\n"), None)
    with pytest.raises(DataError, match=r"take these rows out$"):  # of a run, which has chosen
        read_csv(table(tmp_path, text), "column 3", None, False, exact=True)


def test_separators_in_quotes_separate_nothing(tmp_path: Path) -> None:
    text = '"height, in cm";"weight, in kg";label\n1;2;0\n3;4;1\n'
    assert form(tmp_path, text)[1] == ("height, in cm", "weight, in kg")


def test_blanks_before_quotes_are_no_part_of_a_cell(tmp_path: Path) -> None:
    found = read_csv(table(tmp_path, '"a", "b", "label"\n1, 2, "x"\n3, 4, y\n'), None)
    assert (found.input_names, found.class_names) == (("a", "b"), ("x", "y"))


@pytest.mark.parametrize(("code", "named"), [("utf-16", "UTF-16"), ("cp949", "CP949")])
def test_the_encoding_is_named_where_it_is_known(code: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,品種\n1,2\n", encoding=code)
    with pytest.raises(DataError, match=f"iconv -f {named} -t UTF-8"):
        read_csv(path, None)


WORDY = [f"{i}.5,{i % 3}.25,{'xy'[i % 2]}" for i in range(10)]


def test_numbers_and_a_word_name_the_columns_where_the_word_is_no_class(tmp_path: Path) -> None:
    """As a data frame without names is saved once its label has one."""
    found = table_form(table(tmp_path, "\n".join(["0,1,kind", *WORDY])), None, None)
    assert (found.header, found.columns, found.label) == (True, ("0", "1"), "kind")
    found = table_form(table(tmp_path, "\n".join(["0,1,x", *WORDY])), None, None)
    assert (found.header, found.label) == (False, "column 3")


def test_a_first_word_that_is_no_class_is_asked_about(tmp_path: Path) -> None:
    text = "\n".join(["2019,2020,kind", *WORDY])
    with pytest.raises(
        DataError, match=r"the first line, 2019,2020,kind, may .*no other row has 'k"
    ):
        read_csv(table(tmp_path, text), None)
    assert len(read_csv(table(tmp_path, text), None, None, True).x_train) == 10
    assert len(read_csv(table(tmp_path, text), None, None, False).x_train) == 11
    few = "1,2,iris\n3,4,rose\n5,6,lily\n"  # where all stand out, none does
    assert len(read_csv(table(tmp_path, few), None).x_train) == 3


def test_the_largest_numbers_are_looked_at_without_a_warning(tmp_path: Path) -> None:
    rows = [f"{'-1e308' if i % 2 else '1e308'},{i},{i % 3}" for i in range(12)]
    found = read_csv(table(tmp_path, "\n".join(["a,b,label", *rows])), None)
    assert found.x_train[0, 0] == 1e308
    assert [note.split(":")[0] for note in found.notes] == ["column 'b' counts the rows"]


@pytest.mark.parametrize("label", ["{}.75", "{}"])
def test_years_above_fractions_are_asked_about(label: str, tmp_path: Path) -> None:
    rows = [f"{i}.5,{i % 3}.25,{label.format(i % 2)}" for i in range(10)]
    text = "\n".join(["2019,2020,2021", *rows])
    with pytest.raises(DataError, match=r"the first line, 2019,2020,2021, may name the columns or"):
        read_csv(table(tmp_path, text), None)
    assert len(read_csv(table(tmp_path, text), None, None, True).x_train) == 10
    # a row of whole numbers where another row has one too
    text = "\n".join(["2019,2020,1", *rows[:5], "3,4,1", *rows[5:]])
    assert len(read_csv(table(tmp_path, text), None).x_train) == 12
