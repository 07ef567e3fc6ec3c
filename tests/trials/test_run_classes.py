"""Whatever comes after training goes by the run's classes: archives, frames, several files."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain.cli.__main__ import main
from dptrain.errors import DataError, DptrainError
from dptrain.experiment.evaluation_job import evaluation_job
from dptrain.experiment.job import Job
from dptrain.trained import TrainedNetwork

RANDOM = np.random.default_rng(4)
X = RANDOM.standard_normal((90, 3))
K = np.argmax(X, axis=1)
WORDS = np.array(["red", "blue", "green"])[K]
SIGNS = np.where(K > 0, 1, -1)


def trained_on(folder: Path, t: Any, **settings: Any) -> TrainedNetwork:
    np.savez(folder / "data.npz", x=X, y=t)
    settings = {"model": "linear", "normalise": "standard", "epochs": 40, "lr": 0.5, **settings}
    experiment = dptrain.Experiment(dataset=str(folder / "data.npz"), **settings)
    return dptrain.train(experiment, out=folder / "run", progress=False).network


def job_on(trained: TrainedNetwork, file: Path) -> Job:
    return evaluation_job(trained.experiment, str(file), None, trained.class_names)


@pytest.mark.parametrize("t", [WORDS, WORDS.astype("S"), SIGNS, SIGNS.astype(float)])
def test_an_archive_may_lack_classes(t: Any, tmp_path: Path) -> None:
    task = {} if t.dtype.kind != "f" else {"task": "classification"}
    trained = trained_on(tmp_path, t, **task)
    for i, word in enumerate(np.unique(t)):
        rows = t == word
        file = tmp_path / f"{i}.npz"
        np.savez(file, x=X[rows], y=t[rows])
        job = job_on(trained, file)
        expected = np.mean(trained.classify(X[rows]) == i)
        judged: Any = trained.evaluate_split(job.split("test"))
        assert judged.accuracy == expected
        assert job.dataset.class_names == trained.class_names


@pytest.mark.parametrize(("t", "found"), [(WORDS, "grey"), (SIGNS, -2)])
def test_an_archive_with_other_classes_is_refused(t: Any, found: Any, tmp_path: Path) -> None:
    trained = trained_on(tmp_path, t)
    np.savez(tmp_path / "other.npz", x=X[:2], y=np.array([t[0], found]))
    with pytest.raises(DataError, match=f"t_train holds '{found}' in row 1 .* none of"):
        job_on(trained, tmp_path / "other.npz")


def test_words_are_no_numbers_to_predict(tmp_path: Path) -> None:
    with pytest.raises(DptrainError, match="targets are words such as 'blue'; give numbers"):
        trained_on(tmp_path, WORDS, task="regression")
    with pytest.raises(DataError, match="t_train holds bytes that are not text in UTF-8"):
        trained_on(tmp_path, np.array([b"\xff", b"a", b"b"])[K])


def test_turned_images_are_the_runs_own_data_set(tmp_path: Path) -> None:
    x = RANDOM.standard_normal((60, 4, 4))
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(60) % 2)
    name = str(tmp_path / "data.npz")
    experiment = dptrain.Experiment(dataset=name, model="linear", epochs=1, transpose=True)
    trained = dptrain.train(experiment, out=tmp_path / "run", progress=False).network
    job = job_on(trained, tmp_path / "data.npz")
    assert len(job.dataset.train) + len(job.dataset.test) == 60
    assert len(job.dataset.train) > 0
    rows, _ = job.split("test").take(np.arange(len(job.dataset.test)), np.float32)
    assert all((x.astype(np.float32) == each.T).all(axis=(1, 2)).any() for each in rows)


def test_several_files_are_compared_with_their_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "a.csv"
    lines = [f"{a},{b},{c},{word}" for (a, b, c), word in zip(X.tolist(), WORDS, strict=True)]
    table.write_text("\n".join(["p,q,r,label", *lines]))
    experiment = dptrain.Experiment(
        dataset=str(table), model="linear", normalise="standard", epochs=40, lr=0.5
    )
    out = tmp_path / "run"
    trained = dptrain.train(experiment, out=out, progress=False).network
    names = np.array(trained.class_names)
    other = tmp_path / "b.csv"  # in another order, and with a column more
    other.write_text("label,r,extra,q,p\n" + f"{WORDS[0]},{X[0, 2]},7,{X[0, 1]},{X[0, 0]}\n")
    np.save(tmp_path / "c.npy", X[:5])
    files = [str(table), str(other), str(tmp_path / "c.npy")]
    assert main(["predict", str(out), "--json", "--input", *files]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    expected = names[trained.classify(X)]
    assert found["classes"] == [*expected, expected[0], *expected[:5]]
    assert found["right"] == np.sum(expected == WORDS) + (expected[0] == WORDS[0])
    assert f"note: {other}: left out, as the run did not learn from them: extra" in told.err
    assert main(["predict", str(out), "--input", *files]) == 0
    assert f"{found['right']} of 91 are as column 'label' says" in capsys.readouterr().out


@pytest.fixture(params=["classes", "numbers"])
def compared(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], tuple[dict[str, Any], str]]:
    """Return what predict says of labels beside rows: as JSON, and as text."""
    table, out = tmp_path / "a.csv", tmp_path / "run"
    numbers = request.param == "numbers"

    def write(labels: Iterable[object]) -> None:
        rows = [f"{p},{q},{r},{t}" for (p, q, r), t in zip(X.tolist(), labels, strict=False)]
        table.write_text("\n".join(["p,q,r,label", *rows]) + "\n")

    write(X[:, 0] if numbers else WORDS)
    experiment = dptrain.Experiment(dataset=str(table), model="linear", epochs=5)
    dptrain.train(experiment, out=out, progress=False)

    def called(labels: list[str]) -> tuple[dict[str, Any], str]:
        write(labels)
        capsys.readouterr()
        assert main(["predict", str(out), "--input", str(table), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert main(["predict", str(out), "--input", str(table)]) == 0
        return found | {"numbers": numbers}, capsys.readouterr().out.splitlines()[-1].strip()

    return called


def test_what_cannot_be_compared_is_told(
    compared: Callable[[list[str]], tuple[dict[str, Any], str]],
) -> None:
    found, told = compared(["7.5", "nonsense", ""])
    if found["numbers"]:
        error = found["outputs"][0][0] - 7.5
        assert (found["rmse"], found["mae"], found["r2"]) == (abs(error), abs(error), None)
        assert told.startswith("column 'label' in 1 rows: R² not defined, RMSE ")
        assert told.endswith("; 1 not compared: 'nonsense' is not a number")
        t = X[:20, 0] + 1
        outputs = np.array(compared([str(each) for each in t])[0]["outputs"])[:, 0]
        found, told = compared([str(each) for each in t])
        spread = np.sum((t - t.mean()) ** 2)
        assert found["r2"] == pytest.approx(1 - np.sum((outputs - t) ** 2) / spread)
        assert "column 'label' in 20 rows: R² " in told
    else:
        assert told == "column 'label' is not compared: '7.5' is not a class of the run"
        assert "right" not in found
        found, told = compared([WORDS[0], "pink", ""])
        assert told == (
            f"{found['right']} of 1 are as column 'label' says; 1 not compared: 'pink' is not a "
            "class of the run"
        )
    assert "right" not in compared([""] * 3)[0]
