"""CSV tables: header, label column and kind of label found out; every bad cell named."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.data.csv_table import read_csv
from dptrain.data.raw import RawData
from dptrain.errors import DataError


def read(tmp_path: Path, text: str, label: str | None = None) -> RawData:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return read_csv(path, label)


def test_classes_of_text_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    data = read(tmp_path, "a,species,b\n1,rose,2\n3,iris,-4e-1\n5, rose ,6\n")
    np.testing.assert_array_equal(data.x_train, [[1, 2], [3, -0.4], [5, 6]])
    assert data.x_train.dtype == np.float64
    np.testing.assert_array_equal(data.t_train, np.array([1, 0, 1]), strict=True)
    assert data.class_names == ("iris", "rose")
    assert data.x_test is None
    assert data.t_test is None


def test_whole_numbers_are_class_labels_and_others_regression_targets(tmp_path: Path) -> None:
    whole = read(tmp_path, "1.5,2\n2.5,0.0\n3.5,1e0\n")
    np.testing.assert_array_equal(whole.t_train, np.array([2, 0, 1]), strict=True)
    fractions = read(tmp_path, "1.5,2\n2.5,0.25\n")
    np.testing.assert_array_equal(fractions.t_train, np.array([[2.0], [0.25]]), strict=True)
    assert whole.class_names == fractions.class_names == ()


@pytest.mark.parametrize(
    ("header", "label", "expected"),
    [
        ("a,b,c", None, 2),
        ("a,Label,c", None, 1),
        ("t,target,c", None, 1),
        ("a,b,y", "a", 0),
        ("0,1,class", None, 2),
        ("0,1,mine", "mine", 2),
    ],
)
def test_the_label_column(header: str, label: str | None, expected: int, tmp_path: Path) -> None:
    data = read(tmp_path, f"{header}\n10,11,12\n20,21,22\n", label)
    np.testing.assert_array_equal(data.t_train, [10 + expected, 20 + expected])
    others = [value for value in (10, 11, 12) if value != 10 + expected]
    np.testing.assert_array_equal(data.x_train[0], others)


def test_a_first_row_of_numbers_and_a_class_name_is_no_header(tmp_path: Path) -> None:
    data = read(tmp_path, "5.1,3.5,setosa\n6.0,2.2,virginica\n")
    assert len(data.x_train) == 2
    assert data.class_names == ("setosa", "virginica")


def test_gzip_byte_order_mark_quotes_blank_lines_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf"label",x\r\n\r\n"3","1.5"\r\n4,2\r\n\r\n'))
    data = read_csv(path, "label")
    np.testing.assert_array_equal(data.t_train, [3, 4])
    np.testing.assert_array_equal(data.x_train, [[1.5], [2.0]])


@pytest.mark.parametrize(
    ("text", "label", "problem"),
    [
        ("", None, "holds no rows"),
        ("\n\n", None, "holds no rows"),
        ("a,label\n", None, "header line, but no rows"),
        ("a\n1\n", None, "only one column"),
        ("a|label\n1|2\n", None, "only one column"),
        ("a;label\n1,5;2\n", None, "line 2, column 'a': '1,5' is not a number; write 1.5, with a"),
        ("a,label\n1,0\n1,2,3\n", None, "line 3 has 3 cells, but there are 2 columns"),
        ("a,label\n1,0\n1\n", None, "line 3 has 1 cells"),
        ("a,label\n1,0\n\n,0\n", None, "line 4, column 'a': empty"),
        ("a,label\n1,0\n  ,0\n", None, "line 3, column 'a': empty"),
        ("a,label\n1,0\n1, \n", None, "line 3, column 'label': empty"),
        ("a,label,b\n1,0,2\n1,0,red\n", None, "line 3, column 'b': 'red' is not a number"),
        ("1,2\n2020_01,2\n", None, "line 2, column 'column 1': '2020_01' is not a number"),
        ("a,label,b\n1,0,2\n1,0,nan\n", None, "line 3, column 'b': nan is not a finite"),
        ("a,label\n-inf,0\n", None, "line 2, column 'a': -inf is not a finite"),
        ("a,label\n1,0.5\n1,inf\n", None, "line 3: the label inf is not a finite"),
        ("a,label\n1,0\n1,nan\n", None, "line 3: the label nan is not a finite"),
        ("a,label\n1,1e300\n", None, "line 2: the label 1e[+]300 is too large"),
        ("a,label\n1,0.5\n1,n/a\n", None, "line 3: the label 'n/a' is text, while"),
        ("a,label\n1,0\n", "lable", "no column 'lable' for the label; did you mean 'label'"),
        ("a,a\n1,0\n", "a", "2 columns are called 'a'"),
        ("1,0\n", "a", "label='a' names a column, but the file has no header"),
        ('a,label\n1,"' + "x" * 200_000 + '"\n', None, "line 2: field larger than"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    text: str, label: str | None, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        read(tmp_path, text, label)
    assert str(tmp_path / "table.csv") in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,label\n1,\xff\xfe\n")
    with pytest.raises(DataError, match="not a text file in UTF-8"):
        read_csv(path, None)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"a,label\n1,2\n")[:-9])
    with pytest.raises(DataError, match="truncated"):
        read_csv(path, None)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_csv(tmp_path / "none.csv", None)


@given(
    rows=st.lists(
        st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 9)), min_size=1
    )
)
def test_numbers_come_back_to_the_last_bit(
    rows: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "x,label\n" + "".join(f"{x!r},{t}\n" for x, t in rows)
    data = read(tmp_path_factory.getbasetemp(), text)
    assert all(math.isfinite(x) for x in data.x_train.ravel())
    np.testing.assert_array_equal(data.x_train[:, 0], [x for x, _ in rows])
    np.testing.assert_array_equal(data.t_train, [t for _, t in rows])
