"""Columns of large numbers that differ by little keep their digits where inputs are normalised."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain import Dense, Network
from dptrain.cli.__main__ import main
from dptrain.data.prepared import prepare, prepare_arrays
from dptrain.data.rescaling import ScaleWarning
from dptrain.onnx_export.check import run_model
from dptrain.onnx_export.model import onnx_model
from dptrain.trained import load_run

RANDOM = np.random.default_rng(0)
WHEN = RANDOM.uniform(0, 100, 1000)
PLAIN = np.c_[WHEN, RANDOM.standard_normal(1000)]
OFFSET = np.array([1.7e9, 0])
FAR = PLAIN + OFFSET
LATE = (WHEN > 50).astype(int)
NETWORK = Network(2, [Dense(2)])


def fit(x: Any, network: Any = NETWORK, **settings: Any) -> dptrain.Result:
    """Return a run that is done at once."""
    given: dict[str, Any] = {"epochs": 30, "lr": 0.05, "workers": 1, "normalise": "standard"}
    return dptrain.fit(network, (x, LATE), progress=False, **(given | settings))


@pytest.mark.parametrize("method", ["standard", "minmax"])
def test_an_offset_costs_nothing(method: str, tmp_path: Path) -> None:
    plain = fit(PLAIN, normalise=method, out=tmp_path / "plain").network
    found = fit(FAR, normalise=method, out=tmp_path / "far").network
    assert plain.experiment.input_offsets is None
    assert found.experiment.input_offsets == [np.rint(FAR[:, 0].mean()), 0.0]
    assert plain.accuracy(PLAIN, LATE) > 0.97
    assert found.accuracy(FAR, LATE) == plain.accuracy(PLAIN, LATE)
    assert np.abs(found.predict(FAR) - plain.predict(PLAIN)).max() < 1e-3


def test_all_that_take_the_run_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, table = tmp_path / "run", tmp_path / "t.csv"
    lines = [f"{a:.4f},{b:.4f},{c}" for (a, b), c in zip(FAR.tolist(), LATE, strict=True)]
    table.write_text("\n".join(["when,b,label", *lines, ""]))
    settings = ["--model", "linear", "--normalise", "standard", "--epochs", "40", "--no-curves"]
    assert main(["train", "--dataset", str(table), *settings, "--out", str(run)]) == 0
    assert "takes most digits" not in capsys.readouterr().err
    assert main(["verify", str(run)]) == 0
    assert main(["convert", str(run), str(tmp_path / "same.npz")]) == 0
    other = tmp_path / "other.csv"
    cells = [each.split(",") for each in lines[:200]]
    other.write_text("\n".join(["label,when,b", *(f"{c},{a},{b}" for a, b, c in cells)]))
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "same.npz"), "--dataset", str(other)]) == 0
    assert " 9" in capsys.readouterr().out.split("test ")[1][:5]
    assert main(["predict", str(run), "--input", str(table)]) == 0
    right = int(capsys.readouterr().out.splitlines()[-1].split()[0])
    assert right > 970
    trained, _ = load_run(run)
    put_out = run_model(onnx_model(trained).SerializeToString(), FAR)
    assert np.abs(put_out - trained.outputs(FAR)).max() < 1e-5


def test_inputs_that_have_lost_their_digits_before_are_told(tmp_path: Path) -> None:
    found = fit(FAR, epochs=1, out=tmp_path / "run").network
    near = fit(PLAIN, epochs=1, out=tmp_path / "near").network
    for judge in (found.predict, found.outputs, lambda x: found.evaluate(x, LATE)):
        with pytest.warns(ScaleWarning, match="float32, which .* to the nearest 128 only"):
            judge(FAR.astype(np.float32))
    found.predict(FAR)  # of which nothing is said, as warnings are errors
    found.predict(np.rint(FAR).astype(np.int64))
    near.predict(PLAIN.astype(np.float32))


def test_runs_whose_columns_lose_nothing_are_what_they_were(tmp_path: Path) -> None:
    for x in (PLAIN, PLAIN + OFFSET / 1e6, FAR.astype(np.float32)):
        kinds: tuple[Any, ...] = (None, "find")
        folders = [
            prepare_arrays(
                tmp_path / str(i), x_train=x, t_train=LATE, dtype="float32", offsets=kinds[i]
            )
            for i in (0, 1)
        ]
        first, second = ({e.name: e.read_bytes() for e in each.iterdir()} for each in folders)
        assert first == second


def test_a_table_that_loses_nothing_is_prepared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPTRAIN_CACHE", str(tmp_path / "cache"))
    plain = prepare("iris", dtype="float32")
    assert prepare("iris", dtype="float32", offsets="find") == plain
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_runs_that_begin_with_such_weights_or_go_on(tmp_path: Path) -> None:
    first = fit(FAR, out=tmp_path / "first", epochs=29)
    longer = fit(FAR, out=tmp_path / "longer")
    assert fit(FAR, resume=first.run).digest == longer.digest
    assert fit(FAR, out=tmp_path / "two", workers=2).digest == longer.digest
    again = fit(
        FAR - OFFSET / 1e6, longer.network, lr=1e-9, epochs=1, out=tmp_path / "again"
    ).network
    assert again.experiment.input_offsets != longer.network.experiment.input_offsets
    assert again.accuracy(FAR, LATE) > 0.97  # the columns stand for what they stood for
    assert np.abs(again.outputs(FAR) - longer.network.outputs(FAR)).max() < 0.01
