"""Lines and tables of slow, diverging, stopped and hardly begun runs."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from dptrain.cli.__main__ import main
from dptrain.report.hints import hint
from dptrain.report.number_formats import epoch_text, loss_text, rate_text, seconds_text
from dptrain.report.observers import epoch_line
from dptrain.report.tables import print_outcome, print_table
from tests.metrics.records import an_epoch
from tests.sessions import run, write_dataset


def test_figures_have_few_digits() -> None:
    assert [loss_text(x) for x in (0.04281, 0.0, 1.22895e26, 4.2e-7, 71725.3261, -0.5)] == [
        "0.0428",
        "0.0000",
        "1.229e+26",
        "4.2e-07",
        "71725.3261",
        "-0.5000",
    ]
    assert [loss_text(x, "+") for x in (0.5, -2e9)] == ["+0.5000", "-2e+09"]
    assert [rate_text(x) for x in (0.0123, 1.5, 162074.4)] == ["0.0123", "1.5", "162,074"]
    times = [seconds_text(x) for x in (432e-6, 81.445105, 0.25, 3723.4)]
    assert times == ["432 µs", "81.4 s", "250 ms", "3,723.4 s"]
    assert [epoch_text(x) for x in (12, 1 / 300, 2.5, 10_000)] == ["12", "0.00333", "2.5", "10000"]


def test_the_lines_of_all_epochs_are_aligned() -> None:
    lines = [epoch_line(an_epoch(epoch), "100", "1000") for epoch in (9, 10, 100)]
    assert len({line.index("train") for line in lines}) == 1
    assert lines[0].startswith("epoch   9  step   90  train 0.1111")


@pytest.mark.parametrize("finished", [True, False])
def test_scores_of_a_stopped_run_tell_their_step(
    finished: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "small.npz")
    done = run({"dataset": str(data)}, tmp_path / "run", workers=1)
    print_outcome(replace(done, steps=12, finished=finished), 1.0)
    (train,) = [line for line in capsys.readouterr().out.splitlines() if "train  " in line]
    assert train.rstrip().endswith(", after step 9") is not finished
    print_outcome(replace(done, records=[], finished=finished), 1.0)  # before the first epoch
    assert "train  " not in capsys.readouterr().out


def test_the_command_that_goes_on_can_be_typed_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = write_dataset(tmp_path / "small.npz"), tmp_path / "실행 it's 1"
    done = run({"dataset": str(data)}, folder, workers=1)
    print_outcome(replace(done, finished=False), 1.0)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("continue with")]
    assert shlex.split(line)[-3:] == ["train", "--resume", str(folder)]
    assert main(shlex.split(line)[-3:]) == 0
    capsys.readouterr()
    assert main(["train", str(folder)]) == 2  # a run where an experiment was meant
    told = capsys.readouterr().err.partition("for that of a run give ")[2]
    assert shlex.split(told) == [str(folder / "experiment.toml")]


@pytest.mark.parametrize(("length", "flag"), [("epochs", "--epochs"), ("steps", "--steps")])
def test_a_run_that_is_resumed_at_its_end_says_so(
    length: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write_dataset(tmp_path / "small.npz"))
    settings = {"dataset": data, "steps": None, "epochs": None} | {length: 2}
    done = run(settings, tmp_path / "run", workers=1)
    for fewer in ([], [flag, "1"]):
        assert main(["train", "--resume", str(tmp_path / "run"), "--no-curves", *fewer]) == 0
        told = f"{done.steps} steps are done; to go on, give more {flag}\n"
        assert told in capsys.readouterr().err


def test_a_run_that_has_hardly_begun_says_so(tmp_path: Path) -> None:
    data = str(write_dataset(tmp_path / "small.npz"))
    begun = run({"dataset": data, "steps": None, "epochs": 2}, tmp_path / "run", workers=1)
    assert hint(begun).startswith("14 steps are few, and the loss fell by")
    assert hint(begun).endswith("try --epochs 20")
    assert not hint(replace(begun, finished=False))
    assert not hint(run({"dataset": data}, tmp_path / "steps", workers=1))  # as was asked for
    longer = {"dataset": data, "steps": None, "epochs": 20}
    assert not hint(run(longer, tmp_path / "longer", workers=1))


def test_a_title_is_not_folded_to_the_width_of_its_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table("test accuracy of the best epoch, step 4800", [("a", "b")])
    assert "test accuracy of the best epoch, step 4800" in capsys.readouterr().out
