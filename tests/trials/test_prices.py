"""Targets of any size are learnt where they are standardised, and predicted in their own units."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain import Dense, Network, ReLU
from dptrain.cli.__main__ import main
from dptrain.conversion import book_params
from dptrain.data.target_scale import target_scale_of
from dptrain.errors import DataError, NonFiniteError, UsageError
from dptrain.onnx_export.check import run_model
from dptrain.onnx_export.model import onnx_model
from dptrain.trained import load_run

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((300, 2))
STRAIGHT = X @ [9.0, -4.0]
LINE = Network(2, [Dense(1)])
NAMES = ("mean", "deviation")


def fit(t: Any, network: Any = LINE, **settings: Any) -> dptrain.Result:
    """Return a run that is done at once."""
    given: dict[str, Any] = {
        "epochs": 60,
        "lr": 0.05,
        "workers": 1,
        "normalise_targets": "standard",
    }
    return dptrain.fit(network, (X, t), **({"progress": False} | given | settings))


@pytest.mark.parametrize("offset", [0.0, 1.7e9, -2e14])
@pytest.mark.parametrize("factor", [1e-20, 1.0, 3e4])
def test_any_offset_and_any_factor_are_learnt(offset: float, factor: float, tmp_path: Path) -> None:
    t = offset + factor * STRAIGHT if abs(offset) < 1e14 * factor else factor * STRAIGHT
    found = fit(t, out=tmp_path / "run").network
    y = found.predict(X)
    assert y.dtype == np.float64
    assert np.abs(y[:, 0] - t).max() < 0.05 * factor
    (mean,), (deviation,) = (
        getattr(found.experiment.target_scale, n) for n in ("mean", "deviation")
    )
    assert abs(mean - t.mean()) < 3 * factor  # of the training rows, not of all
    assert deviation == pytest.approx(t.std(), rel=0.2)


def test_scores_are_those_of_the_targets_own_units(tmp_path: Path) -> None:
    t = np.c_[1e6 * STRAIGHT, 5 + X[:, 1] ** 2, np.zeros(300)]
    found = fit(t, Network(2, [Dense(16), ReLU(), Dense(3)]), epochs=5, out=tmp_path / "run")
    y = found.network.predict(X)
    assert np.array_equal(y, found.network.outputs(X))
    judged: Any = found.network.evaluate(X, t)
    assert judged.rmse == pytest.approx(np.sqrt(np.mean((y - t) ** 2)))
    scale: Any = found.network.experiment.target_scale
    units = np.array(scale.deviation)
    assert units == pytest.approx([*t.std(axis=0)[:2], 1.0], rel=0.2)
    error, around = (y - t) / units, (t - t.mean(axis=0)) / units
    assert judged.r2 == pytest.approx(1 - (error**2).sum() / (around**2).sum())
    epoch: Any = found.evaluation
    assert epoch.train_r2 == pytest.approx(judged.r2, abs=0.1)
    assert epoch.train_loss < 5  # in the units that are learnt in


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_and_a_run_that_goes_on_have_the_same_bits(workers: int, tmp_path: Path) -> None:
    t = 2e5 + 7e4 * STRAIGHT
    one = fit(t, out=tmp_path / "one", epochs=3, shards=4)
    assert fit(t, out=tmp_path / "some", epochs=3, shards=4, workers=workers).digest == one.digest
    longer = fit(t, out=tmp_path / "longer", epochs=4, shards=4)
    assert fit(t, resume=one.run, epochs=4, shards=4).digest == longer.digest


def test_all_that_take_the_run_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t = 1.7e9 + 10 * STRAIGHT
    run, table = tmp_path / "run", tmp_path / "t.csv"
    lines = [f"{a!r},{b!r},{c!r}" for (a, b), c in zip(X.tolist(), t.tolist(), strict=True)]
    table.write_text("\n".join(["a,b,target", *lines, ""]))
    settings = ["--model", "linear", "--normalise-targets", "standard", "--epochs", "40"]
    train = ["train", "--dataset", str(table), *settings, "--no-curves", "--workers", "1"]
    assert main([*train, "--out", str(run)]) == 0
    said = capsys.readouterr()
    assert "targets   standardised by the training rows: mean 1.7e+09, deviation " in said.err
    assert "takes most digits" not in said.err
    small = tmp_path / "small.npz"
    assert main(["compress", str(run), "--bits", "8", "--out", str(small)]) == 0
    assert main(["convert", str(run), str(tmp_path / "same.npz")]) == 0
    assert main(["verify", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    said = capsys.readouterr()
    assert "R² 1.0000, RMSE " in said.out
    assert "losses are of standardised targets" in said.out
    assert main(["predict", str(run), "--input", str(table)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(" 0 "))
    assert float(row.split()[1]) == pytest.approx(t[0], abs=0.1)
    for path, room in ((run, 0.1), (tmp_path / "same.npz", 0.1), (small, 9)):
        trained, _ = load_run(path)
        assert np.abs(trained.predict(X)[:, 0] - t).max() < room
        put_out = run_model(onnx_model(trained).SerializeToString(), X.astype(np.float32))
        assert np.abs(put_out - trained.predict(X)).max() < 1e-3
    with pytest.raises(UsageError, match="the book's files have no place; write an"):
        book_params(trained)


@pytest.mark.parametrize(("loss", "what"), [("huber", " and huber_delta"), ("log-cosh", "")])
def test_it_is_told_in_which_units_huber_delta_is(
    loss: Any, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """5000 would be a price's, and of standardised targets more than any error."""
    delta = {"huber_delta": 5000.0} if loss == "huber" else {}
    fit(STRAIGHT, epochs=1, loss=loss, **delta, progress=True, out=tmp_path / "run")
    assert f"; losses{what} are in these units, predictions" in capsys.readouterr().err


def test_a_network_that_is_trained_on_keeps_its_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t = 2e5 + 7e4 * STRAIGHT
    first = fit(t, out=tmp_path / "first", normalise="standard")
    again = dptrain.fit(
        first.network, (X, t), epochs=1, workers=1, progress=False, out=tmp_path / "again"
    )
    assert again.network.experiment.normalise_targets == "standard"
    assert np.abs(again.network.predict(X)[:, 0] - t).max() < 7e4
    capsys.readouterr()
    kept: dict[str, Any] = {"epochs": 1, "workers": 1, "init_from": first.run}
    dptrain.fit(LINE, (X, t), **kept, normalise_targets="standard", out=tmp_path / "2")
    assert "stood for" not in capsys.readouterr().err
    dptrain.fit(LINE, (X, 10 * t), **kept, normalise_targets="standard", out=tmp_path / "3")
    assert "the weights' outputs stood for targets standardised by mean " in capsys.readouterr().err
    dptrain.fit(LINE, (X, t / 1e5), **kept, out=tmp_path / "4")
    assert "and now stand for targets as they are" in capsys.readouterr().err


def test_messages_of_runs_that_learn_nothing_name_it(tmp_path: Path) -> None:
    t = 2e5 + 7e4 * STRAIGHT
    plain: dict[str, Any] = {"normalise_targets": "none"}
    (note,) = fit(t, **plain, epochs=1, out=tmp_path / "0").notes
    assert "R² -" in note
    assert "; targets have a mean or deviation of " in note
    assert ": give normalise_targets='standard', as a network begins with" in note
    with pytest.raises(NonFiniteError, match="give normalise_targets='standard'"):
        fit(1e12 * t, **plain, optimizer="sgd", lr=9.0, out=tmp_path / "1")


REFUSED = {
    "classes": ((X[:, 0] > 0).astype(int), {}, "is for numbers to predict, but .* 2 classes"),
    "a loss": (X[:, 0] ** 2 % 1, {"loss": "binary-cross-entropy"}, "use loss='sum-of-squares'"),
    "far apart": (1e200 * STRAIGHT, {"dtype": "float64"}, "lie too far apart to be standardised"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    t, settings, told = REFUSED[name]
    with pytest.raises((UsageError, DataError), match=told):
        fit(t, **settings, out=tmp_path / "run")


def test_a_search_does_not_compare_losses_in_other_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    param = ["--param", "normalise_targets=none,standard"]
    assert main(["tune", "--dataset", "iris", *param, "--out", str(tmp_path / "search")]) == 2
    assert "are in other units, so that trials could not be ranked" in capsys.readouterr().err


def test_the_scale_is_exact_whatever_the_order_of_the_rows() -> None:
    t = np.c_[1e8 + RANDOM.standard_normal(70_000), np.full(70_000, 0.1)]
    rows = RANDOM.permutation(70_000)
    found = target_scale_of(t, None)
    assert found == target_scale_of(t, rows)
    assert found.deviation[1] == 1
    wide = t[:, 0].astype(np.longdouble)
    assert found.mean[0] == pytest.approx(float(wide.mean()), rel=1e-15)
    assert found.deviation[0] == pytest.approx(float(wide.std()), rel=1e-14)
