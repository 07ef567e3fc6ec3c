"""Whole searches, with real trials in real processes."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator.signals import StopSignal
from dptrain.errors import UsageError
from dptrain.experiment.execution import Execution, settle_execution
from dptrain.experiment.schema import Experiment
from dptrain.metrics.records import EpochRecord
from dptrain.tune.folder import SearchFolder
from dptrain.tune.search import Searcher, Wanted, plan
from dptrain.tune.trial import Trial, twins
from tests.commands import command, dptrain, finish, result, start, wait_until
from tests.sessions import run, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data") / "small.npz"))


class Watcher:
    """Notes what happens; may ask the search to stop after some evaluations."""

    def __init__(self, stop: StopSignal, after: int | None = None) -> None:
        self.begins: list[int] = []
        self._stop = stop
        self._after = after
        self._seen = 0

    def begun(self, number: int, parameters: dict[str, Any]) -> None:  # noqa: ARG002
        self.begins.append(number)

    def evaluated(self, number: int, record: EpochRecord) -> None:  # noqa: ARG002
        self._seen += 1
        if self._seen == self._after:
            self._stop.receive(signal.SIGINT)

    def ended(self, trial: Trial) -> None:
        assert trial.seconds >= 0

    def warned(self, number: int, text: str) -> None:  # noqa: ARG002
        raise AssertionError(text)

    def close(self) -> None:
        """Nothing is held."""


def search(
    dataset: str, out: Path, *parameters: str, workers: int = 1, **wanted: Any
) -> list[Trial]:
    """Carry out a search; return its trials without their times."""
    experiment = Experiment(
        model="mlp:20-7-3", dataset=dataset, batch_size=20, epochs=wanted.pop("epochs", 4)
    )
    execution = settle_execution(Execution(workers=workers), None)
    found = plan(experiment, execution, Wanted(list(parameters), **wanted))
    with SearchFolder.create("test", out) as folder:
        folder.write_search(found)
        stop = StopSignal()
        return timeless(Searcher(found, folder, Watcher(stop), stop).run().counted())


def resumed(out: Path) -> tuple[list[Trial], list[int]]:
    """Go on with a search; return its trials, and which were begun on the way."""
    stop = StopSignal()
    watcher = Watcher(stop)
    with SearchFolder.resume(out) as folder:
        course = Searcher(folder.read_search(), folder, watcher, stop).run()
    return timeless(course.counted()), watcher.begins


def timeless(trials: list[Trial]) -> list[Trial]:
    plain = [{f: getattr(t, f) for f in t.__struct_fields__} for t in trials]
    return [Trial(**each | {"seconds": 0.0}) for each in plain]


LR = "lr=loguniform:1e-3:3"
HIDDEN = "model.hidden=2,9,5-4"


@pytest.fixture(scope="module")
def pruned(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Trial]]:
    """Return a random search with pruning, one trial at a time."""
    out = tmp_path_factory.mktemp("search") / "alone"
    return out, search(dataset, out, LR, HIDDEN, trials=10, prune=True)


def test_every_trial_trains_a_network_of_its_own(
    pruned: tuple[Path, list[Trial]], dataset: str
) -> None:
    out, trials = pruned
    shapes = {2: [(20, 2), (2, 3)], 9: [(20, 9), (9, 3)], "5-4": [(20, 5), (5, 4), (4, 3)]}
    assert {trial.parameters["model.hidden"] for trial in trials} == set(shapes)
    for trial in trials:
        saved = load_checkpoint(out / f"trial-{trial.number:03}/checkpoints/last.safetensors")
        found = [t.shape for t in saved.tensors.values() if t.ndim == 2]
        assert found == shapes[trial.parameters["model.hidden"]]
        assert saved.digest == trial.digest
    assert len({trial.digest for trial in trials}) == len(trials)
    assert twins(trials) == []


def test_a_trial_is_a_run_like_any_other(pruned: tuple[Path, list[Trial]], dataset: str) -> None:
    out, trials = pruned
    trial = next(each for each in trials if each.status == "done")
    widths = str(trial.parameters["model.hidden"])
    settings = {"dataset": dataset, "epochs": 4, "steps": None, "lr": trial.parameters["lr"]}
    whole = run(settings | {"model": f"mlp:20-{widths}-3"}, out.parent / "whole", workers=2)
    assert whole.digest == trial.digest
    assert whole.evaluation is not None
    assert whole.evaluation.test_accuracy == trial.curve[-1][1]
    # one that was given up can be trained to its end, from the evaluation at which it was
    given_up = next(each for each in trials if each.status == "pruned")
    assert given_up.epochs == len(given_up.curve) < 4
    gone_on = result("train", "--resume", out / f"trial-{given_up.number:03}")
    assert (gone_on["finished"], gone_on["epochs"]) == (True, 4)


def test_neighbours_do_not_change_a_search(
    pruned: tuple[Path, list[Trial]], dataset: str, tmp_path: Path
) -> None:
    found = search(dataset, tmp_path / "s", LR, HIDDEN, trials=10, prune=True, side_by_side=3)
    assert {trial.status for trial in found} == {"done", "pruned"}
    assert found == pruned[1]


def test_workers_do_not_change_a_search(
    pruned: tuple[Path, list[Trial]], dataset: str, tmp_path: Path
) -> None:
    found = search(dataset, tmp_path / "s", LR, HIDDEN, trials=3, workers=2)
    assert found == pruned[1][:3]


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_stopped_search_goes_on_as_if_it_had_not_been(
    method: Any, pruned: tuple[Path, list[Trial]], dataset: str, tmp_path: Path
) -> None:
    wanted = {"method": method, "trials": 10, "prune": True, "side_by_side": 2}
    whole = pruned[1]
    if method == "tpe":
        whole = search(dataset, tmp_path / "whole", LR, HIDDEN, **wanted)
    part = tmp_path / "part"
    experiment = Experiment(model="mlp:20-7-3", dataset=dataset, batch_size=20, epochs=4)
    found = plan(experiment, Execution(workers=1), Wanted([LR, HIDDEN], **wanted))
    with SearchFolder.create("test", part) as folder:
        folder.write_search(found)
        stop = StopSignal()
        first = Searcher(found, folder, Watcher(stop, after=11), stop).run().counted()
    assert 0 < len(first) < 10
    second, begun = resumed(part)
    assert second == whole
    assert not {trial.number for trial in first} & set(begun)
    assert resumed(part) == (whole, [])


def test_trials_that_fail_are_recorded_and_the_search_goes_on(dataset: str, tmp_path: Path) -> None:
    found = search(dataset, tmp_path / "s", "lr=0.1,1e300,0.2", "momentum=.8,.9", epochs=1)
    assert [each.status for each in found] == ["failed"] * 6  # adam knows no momentum
    assert found[0].exit_code == 2
    assert "momentum=0.8 means nothing to optimizer adam" in found[0].message
    assert found[0].digest is None
    found = search(dataset, tmp_path / "t", "optimizer=sgd,adam", "lr=0.1,1e30", epochs=1)
    assert [(e.status, e.exit_code) for e in found] == [
        ("done", 0), ("failed", 5), ("done", 0), ("failed", 5),
    ]  # fmt: skip
    assert "finite" in found[1].message
    assert resumed(tmp_path / "t") == (found, [])


def test_a_killed_process_costs_one_trial_which_is_done_again(dataset: str, tmp_path: Path) -> None:
    class Killer(Watcher):
        def evaluated(self, number: int, record: EpochRecord) -> None:
            if number == 2 and record.epoch == 2:
                for child in psutil.Process().children():
                    child.kill()

    experiment = Experiment(model="mlp:20-7-3", dataset=dataset, batch_size=20, epochs=3)
    found = plan(experiment, Execution(workers=1), Wanted(["seed=1,2,3"]))
    with SearchFolder.create("test", tmp_path / "s") as folder:
        folder.write_search(found)
        stop = StopSignal()
        trials = Searcher(found, folder, Killer(stop), stop).run().counted()
    assert [(each.status, each.epochs) for each in trials] == [
        ("done", 3), ("failed", 2), ("done", 3),
    ]  # fmt: skip
    assert "killed by SIGKILL" in trials[1].message
    again, begun = resumed(tmp_path / "s")
    assert begun == [2]
    assert [each.status for each in again] == ["done"] * 3
    assert again == search(dataset, tmp_path / "t", "seed=1,2,3", epochs=3)


def test_settings_that_decide_nothing_are_noticed(dataset: str, tmp_path: Path) -> None:
    ways = ("schedule=step", "decay_every=5,500,600", "lr=.1")  # a trial has 28 steps
    assert twins(search(dataset, tmp_path / "s", *ways)) == [[2, 3]]


JOB = ("--model", "mlp:20-7-3", "--batch-size", 20, "--epochs", 20, "--optimizer", "sgd")


def test_the_verb_ends_at_the_goals(dataset: str, tmp_path: Path) -> None:
    out = tmp_path / "s"
    done = dptrain(
        "tune", "--dataset", dataset, *JOB, "--param", "lr=1e-4,0.5,0.4", "--until",
        "train>=.85,test>=.7", "--side-by-side", 3, "--out", out, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["method"], found["metric"], found["reached"]) == ("grid", "test_accuracy", True)
    assert [(each["trial"], each["status"]) for each in found["trials"]] == [
        (2, "target"), (1, "done"),
    ]  # fmt: skip
    best = found["best"]
    assert best["train_accuracy"] >= 0.85
    assert best["test_accuracy"] >= 0.7
    assert best["epochs"] == best["epoch"] < 20
    assert "hold some out with --validation" in found["notes"][0]
    assert Path(found["picture"]).read_bytes()[:4] == b"\x89PNG"
    assert "| 2 | 0.5 |" in Path(found["ranking"]).read_text()
    weights = result("evaluate", best["run"])
    assert weights["digest"] == best["digest"]
    assert weights["test_accuracy"] == best["test_accuracy"]
    # nothing is left to do
    again = dptrain("tune", "--resume", out)
    assert again.returncode == 0, again.stderr
    assert "trial 2 reached train>=.85,test>=.7" in again.stdout
    assert f"dptrain train {best['run']}/experiment.toml" in again.stdout


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_trials(
    number: signal.Signals, expected: int, dataset: str, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    process = start(
        "tune", "--dataset", dataset, *JOB[:4], "--epochs", 100000, "--param", "seed=1,2,3",
        "--side-by-side", 2, "--out", out,
    )  # fmt: skip
    wait_until(lambda: len(list(out.glob("trial-*/checkpoints/last.*"))) == 2, process)
    process.send_signal(number)
    code, printed, err = finish(process)
    assert code == expected, err
    assert "Traceback" not in err
    assert f"dptrain tune --resume {out}" in printed
    assert not list(out.glob("*.log"))
    assert (out / "trials.jsonl").exists() is False
    assert load_checkpoint(out / "trial-001/checkpoints/last.safetensors").step > 0


def test_a_killed_search_leaves_no_process_and_can_be_resumed(dataset: str, tmp_path: Path) -> None:
    out = tmp_path / "s"
    flags = ("--dataset", dataset, *JOB[:4], "--epochs", 12, "--param", "seed=1,2,3,4", "--json")
    ways = ("--side-by-side", 2)
    process = start("tune", *flags, *ways, "--out", out)
    wait_until(lambda: (out / "trials.jsonl").exists(), process)
    lanes = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    assert not psutil.wait_procs(lanes, timeout=10)[1]
    with (out / "trials.jsonl").open("a") as file:
        file.write('{"number":3,"par')  # torn by the death
    again = json.loads(dptrain("tune", "--resume", out, "--json").stdout)
    other = search(dataset, tmp_path / "whole", "seed=1,2,3,4", epochs=12)
    assert {each["trial"]: (each["digest"], each["value"]) for each in again["trials"]} == {
        each.number: (each.digest, each.value) for each in other
    }


@pytest.mark.parametrize(
    ("parameters", "wanted", "message"),
    [
        ((), {}, "at least one --param"),
        (("lrr=1,2",), {}, "did you mean 'lr'"),
        (("lr=1,2", "lr=3"), {}, "given 2 times"),
        (("lr=uniform:1:2",), {"method": "grid"}, "lr=uniform:1:2:5"),
        (("lr=1,2",), {"trials": 3}, "this grid has 2 trials"),
        (("lr=uniform:1:2",), {"trials": 0}, "trials=0"),
        (("lr=1,2",), {"metric": "validation_loss"}, "give --validation 0.1"),
        (("lr=1,2",), {"until": "train>=.9,validation>=.9"}, "validation_accuracy is not measured"),
        (("lr=1,2",), {"until": "train"}, "is not a goal"),
    ],
)
def test_mistakes(
    parameters: tuple[str, ...], wanted: dict[str, Any], message: str, dataset: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        search(dataset, tmp_path / "s", *parameters, **wanted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--param", "lr=1,2", "--join", 1, "--workers", 2), "leave out --join"),
        (("--seed", 0, "--until", "test>=1", "--resume", "s"), "leave out --seed, --until"),
    ],
)
def test_mistakes_on_the_command_line(
    flags: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    done = dptrain("tune", *flags, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_search_of_failures_fails(dataset: str, tmp_path: Path) -> None:
    flags = ("--dataset", dataset, "--model", "mlp:20-7-3", "--param", "lr=1e30,1e31")
    done = dptrain(
        "tune", *flags, "--side-by-side", 1, "--optimizer", "sgd", "--out", tmp_path / "s"
    )
    assert done.returncode == 1
    assert "trial 1 failed: " in done.stdout
    assert "Traceback" not in done.stderr


def test_without_optuna_the_message_names_the_remedy(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("raise ImportError")
    done = subprocess.run(
        command("tune", "--param", "lr=uniform:1:2", "--method", "tpe"),
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "pip install 'dptrain[tune]'" in done.stderr
