"""What the shell offers at TAB: runs, examples, data sets, models and parameters of a search."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dptrain.cli.__main__ import main
from dptrain.cli.experiments import examples
from dptrain.tune.settings import checked
from dptrain.tune.space import parse_parameter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for run in ("logs/one", "logs/둘 2", "three", ".hidden"):
        Path(run).mkdir(parents=True)
        Path(run, "experiment.toml").touch()
    Path("search").mkdir()
    Path("search/search.json").touch()
    Path("mine.toml").touch()
    Path("net.py").touch()
    Path("data").mkdir()
    for name in ("rows.csv", "data/more.tsv.gz", "notes.txt"):
        Path(name).touch()
    np.savez("rows.npz", x_train=np.zeros(1))
    Path("images").mkdir()
    Path("images/train-images-idx3-ubyte.gz").touch()
    return tmp_path


def offered(line: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return what is offered for the last word of a line."""
    capsys.readouterr()
    assert main(["__complete", *line.split(" ")]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {each.split("\t")[0] for each in lines if each and each[0] != "\x1f"}


RUNS = {"logs/one", "logs/둘 2", "three"}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("evaluate ", RUNS),
        ("evaluate lo", {"logs/one", "logs/둘 2"}),
        ("plot three ", RUNS),
        ("train --init-from t", {"three"}),
        ("tune --resume ", {"search"}),
        ("train --dataset ", {"mnist", "rows.npz", "data/more.tsv.gz", "images"}),
        ("train m", {"mine.toml", "mnist-97"}),
        ("gradcheck ", {"conv", "mine.toml"}),
        ("train --model ", {"two-layer", "linear", "net.py"}),
        ("tune --param ", {"lr=", "model.hidden="}),
    ],
)
def test_what_there_is_is_offered(
    line: str, found: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    offers = offered(line, capsys)
    assert found <= offers
    if found <= RUNS | {"search"}:
        assert offers == found


def test_models_that_were_written_are_offered_like_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = Path(__file__).parents[2].glob("dptrain/examples/*.npz")
    shutil.copy(example, folder / "three.npz")
    assert offered("inspect th", capsys) == {"three", "three.npz"}
    assert offered("verify th", capsys) == {"three"}  # needs the whole run


@pytest.mark.usefixtures("folder")
def test_what_is_offered_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(examples()) <= offered("train ", capsys)
    for parameter in ("lr=", "batch_size="):
        assert parameter in offered("tune --param ", capsys)
        checked(parse_parameter(f"{parameter}1,2"), {})
