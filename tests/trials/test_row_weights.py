"""Weights of rows: what they mean, that they go with their rows, and what is said of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dptrain
from dptrain import Dense, Network, ReLU
from dptrain.cli.__main__ import main
from dptrain.data.dataset import epoch_order
from dptrain.errors import DataError, UsageError
from dptrain.experiment.files import read_toml
from dptrain.gradcheck.calls import check
from tests.trials.test_table_matching import Frame

Array = NDArray[Any]

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((60, 3))
T = (X[:, 0] + 0.5 * RANDOM.standard_normal(60) > 0).astype(int)
W = RANDOM.integers(0, 4, 60)
LINEAR = Network(3, [Dense(2)])
DEEP = Network(3, [Dense(6), ReLU(), Dense(2)])
PLAIN: dict[str, Any] = {
    "workers": 1, "progress": False, "dtype": "float64", "optimizer": "sgd", "lr": 0.5,
    "test": 0.0, "epochs": 4, "batch_size": 13, "shards": 5,
}  # fmt: skip


def fit(network: Network = DEEP, data: tuple[Any, Array] = (X, T), **settings: Any) -> Any:
    return dptrain.fit(network, data, **(PLAIN | settings))


def weights(result: Any) -> Array:
    return np.concatenate([w.ravel() for w in result.network.weights.values()])


def by_hand(start: dict[str, Array], w: Array, epochs: int, batch: int) -> Array:
    """Return the weights of a linear network after training, in plain NumPy: softmax and SGD."""
    matrix, bias = start["dense1.W"].copy(), start["dense1.b"].copy()
    relative = w / w.mean()
    for epoch in range(epochs):
        order = epoch_order(0, epoch, len(X))
        for rows in (order[i : i + batch] for i in range(0, len(X), batch)):
            power = np.exp(X[rows] @ matrix + bias)
            slope = power / power.sum(axis=1, keepdims=True) - np.eye(2)[T[rows]]
            slope *= relative[rows, np.newaxis] / len(rows)
            matrix -= 0.5 * X[rows].T @ slope
            bias -= 0.5 * slope.sum(axis=0)
    return np.concatenate([matrix.ravel(), bias])


@pytest.mark.parametrize("batch", [60, 13])
def test_training_is_that_of_plain_numpy(batch: int, tmp_path: Path) -> None:
    found = fit(LINEAR, sample_weight=W, batch_size=batch, out=tmp_path / "run")
    flat = LINEAR.initial_parameters(0, np.dtype("float64"))
    expected = by_hand(LINEAR.views(flat), W, epochs=4, batch=batch)
    np.testing.assert_allclose(weights(found), expected, rtol=1e-12, atol=1e-14)
    without = by_hand(LINEAR.views(flat), np.ones(60), epochs=4, batch=batch)
    assert np.abs(weights(found) - without).max() > 0.01


def test_a_weight_of_two_is_the_row_twice(tmp_path: Path) -> None:
    """In minibatches of all rows, since otherwise the second one is in another minibatch."""
    twice = np.repeat(np.arange(60), W)
    many = fit(data=(X[twice], T[twice]), batch_size=len(twice), out=tmp_path / "many")
    few = fit(sample_weight=W, batch_size=60, out=tmp_path / "few")
    np.testing.assert_allclose(weights(few), weights(many), rtol=1e-11, atol=1e-13)


def test_weights_of_classes_are_such_weights(tmp_path: Path) -> None:
    balanced = len(T) / (2 * np.bincount(T))  # so that the mean over the rows is 1
    classes = fit(class_weights=balanced.tolist(), out=tmp_path / "classes")
    rows = fit(sample_weight=balanced[T], out=tmp_path / "rows")
    np.testing.assert_allclose(weights(rows), weights(classes), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_weights_give_the_bits_of_none(dtype: str, tmp_path: Path) -> None:
    none = fit(dtype=dtype, out=tmp_path / "none")
    for i, weight in enumerate((1, 0.3)):
        found = fit(dtype=dtype, sample_weight=np.full(60, weight), out=tmp_path / str(i))
        assert found.digest == none.digest


@pytest.mark.parametrize("parts", [{}, {"test": 0.2, "validation": 0.2, "train_rows": 31}])
def test_a_row_of_weight_zero_has_no_part_in_the_gradient(
    parts: dict[str, Any], tmp_path: Path
) -> None:
    other, labels = X.copy(), T.copy()
    other[W == 0], labels[W == 0] = 7.0, 0
    for weights, same in ((W, True), (None, False)):
        one, two = (
            fit(data=data, sample_weight=weights, **parts, out=tmp_path / f"{same}{i}").digest
            for i, data in enumerate([(X, T), (other, labels)])
        )
        assert (one == two) is same


@pytest.mark.parametrize(
    "execution",
    [{"workers": 2}, {"workers": 3}, {"workers": 2, "exchange": "star"}],
    ids=str,
)
def test_any_execution_gives_the_same_bits(execution: dict[str, Any], tmp_path: Path) -> None:
    given: dict[str, Any] = {"sample_weight": W, "validation": 0.2, "train_rows": 41}
    one = fit(**given, out=tmp_path / "one")
    assert fit(**given, **execution, out=tmp_path / "many").digest == one.digest


def test_a_run_goes_on_with_its_weights_alone(tmp_path: Path) -> None:
    whole = fit(sample_weight=W, out=tmp_path / "whole")
    half = fit(sample_weight=W, epochs=2, out=tmp_path / "half")
    with pytest.raises(DataError, match="what the arrays hold is not what the experiment was reco"):
        dptrain.fit(DEEP, (X, T), resume=half, epochs=4, progress=False)
    found = dptrain.fit(DEEP, (X, T), sample_weight=W, resume=half, epochs=4, progress=False)
    assert found.digest == whole.digest


def test_evaluations_count_rows_alike(tmp_path: Path) -> None:
    found = fit(sample_weight=W, test=0.2, validation=0.1, out=tmp_path / "run")
    judged = found.network.evaluate(X, T)
    outputs = found.network.outputs(X)
    losses = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(60), T]
    last = found.history[-1]
    rows = [(last.train_loss, 43), (last.validation_loss, 5), (last.test_loss, 12)]
    assert sum(loss * n for loss, n in rows) / 60 == pytest.approx(losses.mean(), rel=1e-12)
    assert judged.accuracy == np.mean(outputs.argmax(axis=1) == T)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.ones(59), r"sample_weight has shape \(59,\), but the data have 60 rows"),
        (2.0, r"sample_weight has shape \(\), but the data have 60 rows"),
        (np.where(W == 0, np.nan, 1.0), "sample_weight holds nan in row"),
        (-W, "a weight is a finite number, 0 or more"),
        (np.zeros(60), "sample_weight holds only zeros"),
        (["a"] * 60, "it must hold numbers"),
        (np.ma.masked_array(W, W > 2), "sample_weight is a masked array"),
    ],
)
def test_what_is_no_weight(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fit(sample_weight=given)


@pytest.mark.parametrize("given", [W[:59], W[:, np.newaxis], -W, np.zeros(60)])
def test_weights_beside_a_frame_are_called_what_they_are(given: Any) -> None:
    with pytest.raises(DataError, match=r"^sample_weight h"):
        fit(data=(Frame(["a", "b", "c"], X), T), sample_weight=given)


def test_rows_left_without_weight() -> None:
    with pytest.raises(DataError, match="the 1 rows that are left for training all have the weig"):
        fit(sample_weight=np.eye(60)[0], train_rows=1, batch_size=1, shards=1)


def test_a_column_is_not_the_weights_of_arrays() -> None:
    with pytest.raises(UsageError, match="row_weights='w' names a column of a table"):
        fit(row_weights="w")


class Net:
    """A network of one's own, with the loss ``w (x W - t)²``, both in the targets."""

    def __init__(self) -> None:
        self.params = {"W": np.zeros((3, 1))}

    def loss(self, x: Array, t: Array) -> float:
        error = x @ self.params["W"] - t[:, :1]
        return float(np.mean(t[:, 1:] * error**2))

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        error = x @ self.params["W"] - t[:, :1]
        return {"W": 2 * x.T @ (t[:, 1:] * error) / len(x)}


def test_code_of_ones_own_is_told_how_to_weigh(tmp_path: Path) -> None:
    said = r"rows cannot be weighed for .*Net.*np\.column_stack\(\[t, w\]\)"
    with pytest.raises(UsageError, match=said):
        dptrain.fit(Net(), (X, T), sample_weight=W, task="regression", progress=False)
    with pytest.raises(UsageError, match=said):
        check(Net(), (X, T), sample_weight=W, task="regression")
    relative = W / W.mean()
    own: Any = {k: v for k, v in PLAIN.items() if k != "shards"} | {"task": "regression", "lr": 0.1}
    net = Net()
    dptrain.fit(net, (X, np.column_stack([T, relative])), **own, out=tmp_path / "own")
    matrix = np.zeros((3, 1))
    for epoch in range(4):
        order = epoch_order(0, epoch, 60)
        for rows in (order[i : i + 13] for i in range(0, 60, 13)):
            error = relative[rows, np.newaxis] * (X[rows] @ matrix - T[rows, np.newaxis])
            matrix -= 0.1 * 2 * X[rows].T @ error / len(rows)
    np.testing.assert_allclose(net.params["W"], matrix, rtol=1e-10)


def write_table(path: Path, header: str = "a,b,c,weight,kind", last: str = "kind") -> Path:
    columns = [*X.T, W, T] if last == "kind" else [*X.T, T, W]
    rows = [",".join(repr(float(v)) if v % 1 else str(int(v)) for v in row)
            for row in zip(*columns, strict=True)]  # fmt: skip
    path.write_text("\n".join([header, *rows] if header else rows) + "\n")
    return path


def trained(*arguments: object) -> int:
    words = "train --model linear --epochs 2 --workers 1 --dtype float64 --test 0"
    return main([*words.split(), *map(str, arguments)])


def saved(run: Path) -> dict[str, Array]:
    found: dict[str, Array] = dptrain.load_run(run)[0].weights
    return found


@pytest.mark.parametrize(
    ("header", "last", "named", "recorded"),
    [
        ("a,b,c,weight,kind", "kind", "weight", "weight"),
        ("a,b,c,t,extra", "weight", "extra", "extra"),
        ("", "weight", "5", "column 5"),
        ("a,b,c,label,weight", "weight", "5", "weight"),
    ],
)
def test_a_column_weighs_as_an_array_does(
    header: str, last: str, named: str, recorded: str, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "table.csv", header, last)
    assert trained("--dataset", table, "--row-weights", named, "--out", tmp_path / "run") == 0
    np.savez(tmp_path / "rows.npz", X=X, y=T, sample_weight=W)
    assert trained("--dataset", tmp_path / "rows.npz", "--out", tmp_path / "arrays") == 0
    ours, theirs = saved(tmp_path / "run"), saved(tmp_path / "arrays")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    experiment = read_toml(tmp_path / "run" / "experiment.toml")["experiment"]
    assert experiment["row_weights"] == recorded
    assert len(experiment["columns"]) == 3
    assert main(["predict", str(tmp_path / "run"), "--input", str(table)]) == 0


def test_what_is_said_of_a_column_called_weight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "table.csv")
    assert trained("--dataset", table, "--out", tmp_path / "plain") == 0
    assert "column 'weight' is learnt from like the others; give --row-weights weight where" in (
        capsys.readouterr().err.replace("\n", " ")
    )
    for choice in (["--row-weights", "weight"], ["--columns", "a,weight"], ["--label", "weight"]):
        assert trained("--dataset", table, *choice, "--out", tmp_path / choice[0]) == 0
        assert "is learnt from like the others" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (["--row-weights", "wieght"], "has no column 'wieght'; did you mean 'weight'?"),
        (["--row-weights", "label"], "row_weights='label' is the label; name another column"),
        (
            ["--row-weights", "a", "--columns", "a,b"],
            "row_weights='a' is to be learnt from as well",
        ),
        (["--row-weights", "a", "--label", "a"], "row_weights='a' is the label"),
        (["--row-weights", "b"], "line 2, column 'b': '-0.1"),
    ],
)
def test_what_is_no_column_of_weights(
    choice: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "table.csv", "a,b,c,weight,label")
    assert trained("--dataset", table, *choice) == 1
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_other_tables_need_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "table.csv")
    run = tmp_path / "run"
    assert trained("--dataset", table, "--row-weights", "weight", "--out", run) == 0
    bare = tmp_path / "bare.csv"
    rows = [line.split(",") for line in table.read_text().split()]
    bare.write_text("\n".join(",".join([*row[:3], row[4]]) for row in rows[:31]))
    assert main(["evaluate", str(run), "--dataset", str(bare), "--json"]) == 0
    assert main(["evaluate", str(run), "--dataset", str(table), "--json"]) == 0
    assert main(["verify", str(run)]) == 0
    bare.write_text("a,b,kind\n1,2,0\n")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--dataset", str(bare)]) == 1
    assert "has no column 'c'" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [["--row-weights", "1"], ["--columns", "2,3"]])
def test_a_table_without_names_needs_all_columns(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was asked whether column 5 was meant to be column 4."""
    rows = [f"{w},{a:.3f},{b:.3f},{t}" for w, (a, b), t in zip(W, X[:, :2], T, strict=True)]
    (tmp_path / "all.csv").write_text("\n".join(rows))
    (tmp_path / "less.csv").write_text("\n".join(row.partition(",")[2] for row in rows))
    run = tmp_path / "run"
    assert trained("--dataset", tmp_path / "all.csv", *settings, "--out", run) == 0
    assert main(["evaluate", str(run), "--dataset", str(tmp_path / "all.csv")]) == 0
    assert main(["evaluate", str(run), "--dataset", str(tmp_path / "less.csv")]) == 1
    said = capsys.readouterr().err
    assert "has 3 columns and no header line, but the run's table had a 'column 4'" in said


@pytest.mark.parametrize("what", ["normalise", "normalise_targets"])
def test_made_up_numbers_of_weight_zero_are_told(
    what: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, t = X.copy(), X @ [1.0, 2.0, 3.0]
    if what == "normalise":
        x[W == 0, 1] = -999
    else:
        t[W == 0] = -999
    settings = {what: "standard", "sample_weight": W, "progress": True, "epochs": 1}
    line = Network(3, [Dense(1)])
    for i, data in enumerate([(X, X[:, 0]), (x, t)]):
        fit(line, data, **settings, out=tmp_path / f"{i}")
        said = capsys.readouterr().err
        assert (f"far from all others, and count in the statistics of {what}" in said) is bool(i)
