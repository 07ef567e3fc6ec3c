"""Columns that lose digits in float32, told by what rounding does to them."""

from pathlib import Path

import numpy as np
import pytest

from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare, prepare_arrays
from dptrain.data.rounding import Rounded, worst_rounded

FLOAT32 = np.dtype("float32")
SMALL = np.random.default_rng(0).uniform(0, 100, 3000)


def test_unix_seconds() -> None:
    columns = np.stack([SMALL, 1.7e9 + SMALL, 5.4e6 + SMALL / 20], axis=1)
    found = worst_rounded(columns, FLOAT32, "x_train", ("a", "when", "north"))
    assert found is not None
    assert found.name == "column 'when'"
    assert found.mean == pytest.approx(1.7e9 + SMALL.mean(), rel=1e-12)
    assert found.deviation == pytest.approx(SMALL.std(), rel=1e-6)
    assert (found.spacing, found.others) == (128, 1)
    (north,) = [worst_rounded(columns[:, 2:], FLOAT32, "x_train")]
    assert north is not None
    assert north.name == "column 0 of x_train"
    whole = worst_rounded((1.7e9 + SMALL).astype(np.int64), FLOAT32, "the targets")
    assert whole is not None
    assert (whole.name, whole.others) == ("the targets", 0)
    assert worst_rounded(columns, np.dtype("float64"), "x_train") is None


@pytest.mark.parametrize(
    "values",
    [
        SMALL / 7,
        1e-30 * SMALL,
        1900 + np.floor(SMALL),  # years
        (1_000_000 + np.arange(3000)).astype(np.int64),  # float32 holds each
        1.7e9 + 1e6 * SMALL,
        np.full(3000, 0.1),
        np.full(3000, 1.7e9 + 1),
        np.where(SMALL < 0.1, 1e9, SMALL),
    ],
)
def test_ordinary_columns(values: np.ndarray) -> None:
    assert worst_rounded(values[:, np.newaxis], FLOAT32, "x_train") is None


def test_all_rows_count_of_arrays_larger_than_a_piece() -> None:
    images = np.zeros((3000, 20, 30))
    images[:, 3, 4] = 1e8 + np.arange(3000)
    found = worst_rounded(images, FLOAT32, "x_train")
    assert found == Rounded("x_train at (3, 4)", 1e8 + 1499.5, found.deviation, 8.0)  # type: ignore[union-attr]


def test_it_is_told_of_prepared_data_also_when_they_are_found_again(tmp_path: Path) -> None:
    table = tmp_path / "half.csv"
    rows = (f"{1.7e9 + x:.3f},{x:.3f},{x / 3:.3f}" for x in SMALL)
    table.write_text("when,a,label\n" + "\n".join(rows))
    for _ in range(2):
        opened = open_dataset(prepare(str(table), dtype="float32"), validation=0, test=0.1, seed=0)
        assert [each.name for each in opened.rounded] == ["column 'when'"]
    opened = open_dataset(prepare(str(table), dtype="float64"), validation=0, test=0.1, seed=0)
    assert opened.rounded == ()
    x, t = SMALL[:, np.newaxis], 1.7e9 + SMALL[:, np.newaxis]
    folder = prepare_arrays(tmp_path / "arrays", x_train=x, t_train=t, dtype="float32")
    opened = open_dataset(folder, validation=0, test=0.1, seed=0)
    assert [each.name for each in opened.rounded] == ["the targets"]
