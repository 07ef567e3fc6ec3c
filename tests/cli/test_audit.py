"""``dptrain verify`` and ``dptrain bisect`` on the command line."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dptrain.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from dptrain.errors import RunFolderError
from dptrain.runfolder import RunFolder, unchanging
from tests.audit.runs import edit_checkpoint, edit_lines, epochs, flip_bit
from tests.commands import dptrain, result
from tests.own.nets import EXAMPLE, like_the_example
from tests.sessions import write_dataset

SIZES = json.dumps({"input_size": 20, "hidden_size": 7, "output_size": 3, "weight_init_std": 0.3})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    job = ("--dataset", data, "--model", "mlp:20-7-3", "--batch-size", 20, "--epochs", 2)
    flags = ("--keep-checkpoints", "--record-digests", "--log-every", 1, "--workers", 2)
    result("train", *job, *flags, "--out", folder)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def failed(code: int, *arguments: object) -> str:
    done = dptrain(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 3 else done.stderr


def test_verify(run: Path) -> None:
    done = dptrain("verify", run)
    assert done.returncode == 0, done.stderr
    assert re.search(r"start to epoch 1\S* +0 to 7 +\d+ +(\w{12}) +\1 +yes", done.stdout)
    assert "everything is the same, to the last bit" in done.stdout
    found = result("verify", run)
    assert (found["same"], found["steps"], found["first"]) == (True, 14, None)
    assert [each["same"] for each in found["windows"]] == [True, True]
    assert all(each["recorded"] == each["found"] for each in found["windows"])


def test_windows_that_can_be_chosen_again(run: Path) -> None:
    done = dptrain("verify", run, "--windows", 1)
    assert done.returncode == 0, done.stderr
    seed = re.search(r"chosen by --seed (\d+)", done.stderr)
    assert seed is not None
    again = result("verify", run, "--windows", 1, "--seed", seed[1])
    assert (again["seed"], again["windows_there"], len(again["windows"])) == (int(seed[1]), 2, 1)
    assert again["windows"][0]["name"] in done.stdout


def test_verify_names_what_differs(copy: Path) -> None:
    edit_checkpoint(copy, "last", lambda saved: flip_bit(saved.tensors["dense1.W"], 3, 2))
    told = failed(3, "verify", copy)
    assert "checkpoint last differs, step 14, first in dense1.W, 1 of 140 elements, by up" in told
    assert "at [3, 2]" in told

    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "epoch" and line["step"] == 7:
            line["digest"] = "0" * 64

    edit_lines(copy, change)
    told = failed(3, "verify", copy)
    assert "epoch 1 differs, step 7 (recorded 000000000000, found " in told
    as_json = json.loads(failed(3, "verify", copy, "--json"))
    assert as_json["first"]["recorded"] == "0" * 64
    assert [each["same"] for each in as_json["windows"]] == [False, False]
    (copy / "checkpoints" / "best.safetensors").write_bytes(b"")
    assert "a checkpoint cannot be read: " in failed(3, "verify", copy)


def test_bisect(run: Path, data: Path, tmp_path: Path) -> None:
    same = dptrain("bisect", run, run)
    assert same.returncode == 0, same.stderr
    assert "the two runs are the same, up to step 14" in same.stdout
    other = epochs(data, tmp_path / "other", schedule="step", decay_every=9, record_digests=True)
    told = failed(3, "bisect", run, other)
    assert re.search(r"schedule +constant +step", told)
    assert "recorded: the tensors after step 10 differ, in dense1.W, dense1.b" in told
    assert "re-executed: both from step 7 to 10" in told
    assert "part in step 10, in the update: learning rate: 0.001 and 0.0005" in told
    found = json.loads(failed(3, "bisect", run, other, "--json"))
    assert (found["finding"]["step"], found["finding"]["phase"]) == (9, "update")
    assert found["recorded"]["step"] == 10
    assert result("bisect", run, run)["same"]


def test_bisect_names_the_run_that_strayed(run: Path, data: Path, tmp_path: Path) -> None:
    other = epochs(data, tmp_path / "other", schedule="step", decay_every=9, record_digests=True)
    shutil.copy(run / "experiment.toml", other / "experiment.toml")
    told = failed(3, "bisect", run, other)
    assert "the re-executions agree to the last bit" in told
    assert f"{other} did not compute what its experiment says, between the steps 9 and 10" in told


def test_a_network_of_ones_own(data: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    model = like_the_example(tmp_path, "    pass")
    own = ("--model", model, "--model.args", SIZES)
    job = ("--dataset", data, "--batch-size", 30, "--epochs", 1)
    for out, lr in zip(runs, (0.1, 0.2), strict=True):
        result("train", *job, *own, "--lr", lr, "--workers", 2, "--out", out)
    assert f"add --model {model}" in failed(2, "verify", runs[0])
    assert f"add --model {model}" in failed(2, "bisect", *runs)
    assert result("verify", runs[0], "--model", model)["same"]
    assert "learning rate" in failed(3, "bisect", *runs, "--model", model)
    assert "is not what the experiment was" in failed(2, "verify", runs[0], "--model", EXAMPLE)
    file = Path(model.removesuffix(":Net"))
    file.write_text(file.read_text() + "\n# no other arithmetic\n")
    done = dptrain("verify", runs[0], "--model", model)
    assert done.returncode == 0
    assert "has changed since the run was trained" in done.stderr


@pytest.mark.parametrize("verb", [("verify",), ("bisect", "RUN")])
def test_mistakes(verb: tuple[str, ...], run: Path, copy: Path, tmp_path: Path) -> None:
    start = [run if word == "RUN" else word for word in verb]
    assert "there is no such run folder" in failed(1, *start, tmp_path / "nothing")
    assert "holds 1 run folders; name one" in failed(1, *start, tmp_path)
    result("compress", run, "--prune", 0.5, "--out", tmp_path / "model.npz")
    assert "does not tell how it was trained" in failed(2, *start, tmp_path / "model.npz")
    (copy / "metrics.jsonl").write_text('{"kind":"step"}\n')
    assert "line 1 is not a record of metrics" in failed(1, *start, copy)
    (copy / "metrics.jsonl").unlink()
    assert "there are no metrics" in failed(1, *start, copy)
    (copy / "metrics.jsonl").touch()
    shutil.rmtree(copy / "checkpoints")
    assert "tells of no step" in failed(1, *start, copy)
    (copy / "experiment.toml").write_text("[experiment]\nmodle = 'two-layer'\n")
    assert "unknown key 'modle'" in failed(2, *start, copy)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--windows", 0), "--windows 0 is nothing to re-execute"),
        (("--windows", 1.5), "needs a whole number"),
        (("--windows", 1, "--seed", "x"), "needs a whole number"),
        (("--epochs", 3), "--epochs"),
    ],
)
def test_mistakes_of_windows(flags: tuple[object, ...], message: str, run: Path) -> None:
    assert message in failed(2, "verify", run, *flags)


def test_data_that_have_changed(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "own.npz")
    runs = [epochs(data, tmp_path / str(lr), 1, lr=lr) for lr in (0.1, 0.2)]
    write_dataset(data, rows=138)
    assert "is not what the experiment was recorded with" in failed(1, "verify", runs[0])
    told = failed(3, "bisect", *runs)
    assert "nothing was re-executed: the data set" in told
    assert "recorded: the loss of step 2 differs" in told
    data.unlink()
    assert "Traceback" not in failed(1, "verify", runs[0])


def test_a_run_that_is_being_written_is_not_compared(copy: Path, run: Path) -> None:
    with RunFolder.resume(copy):
        told = f"process {os.getpid()} is writing into this run; wait for its end"
        assert told in failed(1, "verify", copy)
        assert told in failed(1, "bisect", run, copy)
    with unchanging(copy):
        with pytest.raises(RunFolderError, match=r"is (reading|writing into) this run"):
            RunFolder.resume(copy)
        assert dptrain("verify", copy).returncode == 0, "any number may read"
    RunFolder.resume(copy).close()
    (copy / ".lock").unlink()
    assert dptrain("verify", copy / "experiment.toml").returncode == 0


FAR = 2**62
DAMAGE: dict[str, tuple[int, str]] = {
    "emptied": (3, "metrics.jsonl: has lost all of its records"),
    "negative": (1, "metrics.jsonl: line 2 is not a record of metrics"),
    "far": (1, f"tells of step {FAR:,}, but its experiment ends with step 14"),
    "far checkpoint": (1, f"tells of step {FAR:,}, but its experiment ends with step 14"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_records_that_cannot_be(damage: str, copy: Path) -> None:
    code, told = DAMAGE[damage]
    if damage == "emptied":
        (copy / "metrics.jsonl").write_text("")
    elif damage == "far checkpoint":
        last = copy / "checkpoints" / "last.safetensors"
        save_checkpoint(last, replace(load_checkpoint(last), step=FAR))
    else:
        step = -1 if damage == "negative" else FAR

        def change(line: dict[str, Any]) -> None:
            if line.get("step") == 1:
                line["step"] = step

        edit_lines(copy, change)
    assert told in failed(code, "verify", copy)
