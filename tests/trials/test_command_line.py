"""What a newcomer types first: help, names of examples, and what is not an experiment."""

import ast
import re
import shutil
from pathlib import Path

import pytest

import dptrain
from dptrain.cli.__main__ import main
from dptrain.cli.experiments import EXAMPLES, examples, read_experiment
from dptrain.cli.panels import panels
from dptrain.cli.verbs import VERBS
from dptrain.errors import UsageError
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from tests.commands import dptrain as run_dptrain

PACKAGE = Path(dptrain.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]")


@pytest.mark.parametrize("verb", VERBS)
def test_the_overview_tells_the_first_line_of_each_verbs_help(verb: str) -> None:
    tree = ast.parse((PACKAGE / "cli" / f"{verb}.py").read_text(encoding="utf-8"))
    (function,) = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == verb]
    assert VERBS[verb] == (ast.get_docstring(function) or "").splitlines()[0]


def test_every_verb_is_in_the_overview() -> None:
    files = {path.stem for path in (PACKAGE / "cli").glob("*.py")}
    assert files > VERBS.keys()
    done = run_dptrain("--help", env={"COLUMNS": "200"})
    assert [line for line in VERBS.values() if line not in done.stdout] == []
    titles = [done.stdout.index(f"─ {title} ─") for title in ("Train", "Look", "Check", "Machine")]
    assert titles == sorted(titles)


def test_a_verbs_own_help_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    main(["predict", "--help"])
    assert "--input" in capsys.readouterr().out
    main(["train", "--help"])
    out = capsys.readouterr().out
    assert "DPTRAIN_LR" in out
    assert "[default: mlp:784-100-10]" in " ".join(out.replace("│", "").split())


def test_settings_stand_in_panels() -> None:
    experiment = panels(Experiment.__struct_fields__)
    assert experiment["lr"].name == "Optimizer"
    assert experiment["dropout"].name == experiment["weight_decay"].name == "Against overfitting"
    assert experiment["epochs"].name == "Training"
    assert {group.name for group in panels(Execution.__struct_fields__).values()} == {
        "Execution: only the speed"
    }


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("mnist", "it is a data set; give --dataset mnist"),
        ("iris", "it is a data set; give --dataset iris"),
        ("mlp:784-10", "it is a model; give --model mlp:784-10"),
        ("net.py:Net", "it is a model; give --model net.py:Net"),
        ("con", "did you mean 'conv'?"),
        ("nothing-like-it", "the examples are augmentation, conv, "),
        ("folder", "it is a folder; for that of a run give folder/experiment.toml"),
        ("rows.csv", "it is a data set; give --dataset rows.csv"),
        ("net.py", "name the class or function in it as well: net.py:Net, and give that as"),
    ],
)
def test_what_is_no_experiment_is_told_what_it_is(
    what: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/experiment.toml").touch()
    Path("rows.csv").write_text("a,b\n1,2\n")
    Path("net.py").write_text("class Net:\n    def gradient(self, x, t): ...\n")
    with pytest.raises(UsageError) as refused:
        read_experiment(Path(what))
    assert message in str(refused.value)


@pytest.mark.parametrize("what", ["conv", "conv.toml", "examples/conv.toml"])
def test_examples_come_with_the_package(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_experiment(Path(what)) == read_experiment(EXAMPLES / "conv.toml")
    assert "conv" in examples()


def test_a_file_of_ones_own_stands_above_an_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conv.toml").write_text("[experiment]\nseed = 7\n")
    assert read_experiment(Path("conv.toml"))["experiment"] == {"seed": 7}


def test_files_are_found_beside_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "three-layer.npz", "there/begin.npz")
    Path("there/rows.csv").write_text("a,b\n1,2\n")
    Path("there/e.toml").write_text('[experiment]\ninit_from = "begin.npz"\ndataset = "rows.csv"\n')
    beside = {"init_from": "there/begin.npz", "dataset": "there/rows.csv"}
    assert read_experiment(Path("there/e.toml"))["experiment"] == beside
    Path("rows.csv").write_text("a,b\n3,4\n")  # as a recorded experiment means it
    assert read_experiment(Path("there/e.toml"))["experiment"] == beside | {"dataset": "rows.csv"}


def test_every_flag_that_a_message_advises_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # so that no flag is broken in two
    for words in ([], *([verb] for verb in VERBS)):
        main([*words, "--help"])
    known = FLAG.findall(capsys.readouterr().out)
    advised = {
        flag
        for file in PACKAGE.rglob("*.py")
        if file.name != "refusals.py"  # it has those of others
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for flag in FLAG.findall(node.value)
    }
    assert len(advised) > 40
    assert advised - set(known) == set()


@pytest.mark.parametrize(("flag", "rows"), [("--header", 3), ("--no-header", 4)])
def test_a_first_line_is_a_header_or_not(
    flag: str, rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("0,1\n5,0\n6,1\n7,0\n")
    ways = ["--model", "linear", "--steps", "1", "--workers", "1", "--no-curves", "--test", "0.25"]
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", "--dataset", str(tmp_path / "rows.csv"), flag, *ways, *out]) == 0
    (found,) = re.findall(r"(\d+) train, (\d+) test rows", capsys.readouterr().err)
    assert sum(map(int, found)) == rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("predict run", "predict needs --input: A"),
        ("predict run a.png", "predict needs --input: A"),
        ("predict", "predict needs RUN: A run folder"),
        ("bisect run", "bisect needs OTHER: "),
        ("predict run --input", "--input needs a value; name files"),
        ("train --epochs", "--epochs needs a value: Passes over the training rows"),
        ("predict run --input a --json --json", "--json is given more than once; give it once"),
        ("train a b", "train has no use for 'b'"),
    ],
)
def test_what_is_missing_is_described(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert f"dptrain: {message}" in capsys.readouterr().err
