"""Runs that go on: from Python, with data in another place, with weights that a call returned."""

import os
import shlex
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain import BatchNorm, Dense, Flatten, Network, Sigmoid
from dptrain.audit.history import read_history
from dptrain.cli.verbs import program
from dptrain.coordinator.resuming import command_on, recorded
from dptrain.errors import DataError, DptrainError, RunFolderError, UsageError
from dptrain.experiment.python_words import as_python
from dptrain.runfolder import RunFolder
from dptrain.settings import Settings
from tests.audit.runs import bisected
from tests.own import nets
from tests.own.nets import Net
from tests.sessions import run, write_dataset

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((90, 20))
T = RANDOM.integers(0, 3, 90)
NETWORK = Network(20, [Dense(7, init="he"), Sigmoid(), Dense(3, init="he")])
KEPT: Settings = {"batch_size": 20, "workers": 1, "lr": 0.01, "optimizer": "adam"}


def fit(network: object, **settings: Any) -> dptrain.Result:
    given: Any = dict(KEPT) | settings
    return dptrain.fit(network, (X, T), progress=False, **given)


def cli(*arguments: object) -> object:
    given = list(map(str, arguments))
    return program(given)(given, result_action="return_value")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dptrain.Result:
    return fit(NETWORK, epochs=2, out=tmp_path_factory.mktemp("runs") / "two")


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fit(NETWORK, epochs=4, out=tmp_path_factory.mktemp("runs") / "four").digest


def stopped(out: Path, network: object = NETWORK, **settings: Any) -> str:
    """Interrupt a run of many epochs; return what is said."""
    timer = threading.Thread(target=_interrupt_once_there_is, args=(out / "metrics.jsonl",))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as stop:
        fit(network, epochs=100_000, out=out, **settings)
    timer.join()
    return str(stop.value)


def _interrupt_once_there_is(file: Path) -> None:
    while not file.exists() or file.read_text().count("\n") < 3:
        os.sched_yield()
    os.kill(os.getpid(), signal.SIGINT)


def test_fit_resumes_a_stopped_run_to_the_bits_of_one_run(
    two: dptrain.Result, four: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = stopped(out)
    assert said.endswith(f"continue with: dptrain.fit(..., resume={str(out)!r}), with the same "
                         "network and arrays")  # fmt: skip
    step = read_history(out).end
    epochs = -(-step // 4) + 1  # the test part takes 18 of the 90 rows
    found = fit(NETWORK, epochs=epochs, resume=out)
    assert found.digest == fit(NETWORK, epochs=epochs, out=tmp_path / "whole").digest


def test_resume_takes_results_paths_and_text(four: str, tmp_path: Path) -> None:
    for i in range(3):
        begun = fit(NETWORK, epochs=2, out=tmp_path / str(i))
        found = fit(NETWORK, epochs=4, resume=(begun, begun.run, str(begun.run))[i])
        assert found.digest == four
        assert found.run == begun.run


def test_the_same_call_with_resume_goes_on(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"class_weights": "balanced", "normalise": "standard", "lr": None}
    whole = fit(NETWORK, epochs=4, out=tmp_path / "whole", **settings)
    fit(NETWORK, epochs=2, out=tmp_path / "run", **settings)
    for epochs in (4, 4):  # the second time there is nothing left to do
        found = fit(NETWORK, epochs=epochs, resume=tmp_path / "run", **settings)
        assert found.digest == whole.digest
    assert [each.epoch for each in found.epochs] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.5}, "which has lr=0.01, not 0.5"),
        ({"network": Network(20, [Dense(3)])}, "another network than this one"),
        ({"patience": 3}, "a run with no patience"),
        ({"out": "elsewhere"}, "leave out out"),
    ],
)
def test_resume_refuses_another_experiment(
    two: dptrain.Result, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        fit(changes.pop("network", NETWORK), resume=two.run, **({"epochs": 4} | changes))


def test_resume_refuses_other_arrays(two: dptrain.Result) -> None:
    with pytest.raises(DataError, match="give the same ones, of the same dtype"):
        dptrain.fit(NETWORK, (X + 1, T), epochs=3, resume=two, progress=False, **KEPT)  # type: ignore[misc]


def test_a_run_of_arrays_goes_on_with_a_file_of_them(four: str, tmp_path: Path) -> None:
    begun = fit(NETWORK, epochs=2, out=tmp_path / "out")
    np.savez(tmp_path / "same.npz", x_train=X, t_train=T)
    np.savez(tmp_path / "other.npz", x_train=X + 1, t_train=T)
    with pytest.raises(DataError, match=r"dptrain\.fit .* --dataset FILE\.npz"):
        cli("train", "--resume", begun.run, "--epochs", 4, "--no-curves")
    with pytest.raises(DataError, match="what the arrays hold is not what"):
        cli("train", "--resume", begun.run, "--dataset", tmp_path / "other.npz", "--no-curves")
    same = ("--dataset", tmp_path / "same.npz")
    assert cli("train", "--resume", begun.run, "--epochs", 4, *same, "--no-curves") == 0
    assert dptrain.load_run(begun.run)[1].digest == four
    assert cli("verify", begun.run, *same) == 0


def test_the_way_on_can_be_followed_as_it_stands(four: str, tmp_path: Path) -> None:
    lies_at = tmp_path / "the same.npz"
    np.savez(lies_at, x_train=X, t_train=T)
    begun = fit(NETWORK, epochs=2, out=tmp_path / "a run")
    experiment = dptrain.load_run(begun.run)[0].experiment
    command = shlex.split(command_on(experiment, begun.run, str(lies_at)))
    words = command[command.index("train") :]
    assert cli(*words, "--epochs", 4, "--no-curves") == 0
    assert dptrain.load_run(begun.run)[1].digest == four


def test_data_that_have_moved(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    data = write_dataset(tmp_path / "here" / "small.npz")
    for name in ("run", "other"):
        lr = 0.1 if name == "run" else 0.2
        run({"dataset": str(data), "steps": 9, "lr": lr}, tmp_path / name, workers=1)
    moved = (tmp_path / "here").rename(tmp_path / "there") / "small.npz"
    out = tmp_path / "run"
    verbs = (
        ("compress", out, "--bits", 8),
        ("verify", out),
        ("bisect", out, tmp_path / "other"),
        ("train", "--resume", out, "--steps", 12, "--no-curves"),
    )
    for verb, code in zip(verbs, (0, 0, 3, 0), strict=True):
        if verb[0] != "bisect":
            with pytest.raises(DataError, match=r"no longer at .*name where .* with --dataset"):
                cli(*verb)
        assert cli(*verb, "--dataset", os.path.relpath(moved)) == code
    assert recorded(RunFolder(out))[0]["dataset"] == str(moved)  # from whatever folder
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x_train=X, t_train=T)
    with pytest.raises(DataError, match="is not what the experiment was recorded with"):
        cli("verify", out, "--dataset", wrong)
    for changed in (("--lr", 0.3), ("--batch-size", 7)):
        with pytest.raises(UsageError, match="which has its own"):
            cli("train", "--resume", out, "--dataset", moved, *changed)


def test_an_own_network_goes_on(tmp_path: Path) -> None:
    def own() -> Net:
        np.random.seed(0)
        return Net()

    one_hot = np.eye(3)[T]
    kwargs: dict[str, Any] = dict(KEPT) | {"progress": False}
    whole = dptrain.fit(own(), (X, one_hot), epochs=4, out=tmp_path / "whole", **kwargs)
    begun = dptrain.fit(own(), (X, one_hot), epochs=2, out=tmp_path / "begun", **kwargs)
    again = dptrain.fit(own(), (X, one_hot), epochs=4, resume=begun, **kwargs)
    assert again.digest == whole.digest
    with pytest.raises(UsageError, match="give fit that object again"):
        dptrain.fit(begun.network, (X, one_hot), epochs=1, **kwargs)


def test_an_own_object_goes_on_from_the_command_line(tmp_path: Path) -> None:
    one_hot = np.eye(3)[T]
    kwargs: dict[str, Any] = dict(KEPT) | {"progress": False}
    np.random.seed(0)
    begun = dptrain.fit(Net(20, 9), (X, one_hot), epochs=2, out=tmp_path / "begun", **kwargs)
    np.savez(tmp_path / "same.npz", x_train=X, t_train=one_hot)
    code = ("--model", f"{nets.__file__}:Net", "--model.args", '{"hidden": 9}')
    given = ("--dataset", tmp_path / "same.npz", *code)
    assert cli("train", "--resume", begun.run, "--epochs", 4, *given, "--no-curves") == 0
    np.random.seed(0)
    whole = dptrain.fit(Net(20, 9), (X, one_hot), epochs=4, out=tmp_path / "whole", **kwargs)
    assert dptrain.load_run(begun.run)[1].digest == whole.digest


def test_what_a_call_returns_another_takes(two: dptrain.Result, tmp_path: Path) -> None:
    loaded = dptrain.load_run(str(two.run))[0]
    digests = set()
    ways: list[tuple[object, dict[str, Any]]] = [
        (two.network, {}),
        (two, {}),
        (loaded, {}),
        (NETWORK, {"init_from": two}),
        (NETWORK, {"init_from": two.run}),
        (NETWORK, {"init_from": str(two.run)}),
    ]
    for i, (network, settings) in enumerate(ways):
        found = fit(network, epochs=1, out=tmp_path / str(i), **settings)
        digests.add(found.digest)
    assert len(digests) == 1
    assert digests != {fit(NETWORK, epochs=1, out=tmp_path / "anew").digest}
    assert not bisected(tmp_path / "0", tmp_path / "3").records.first
    np.savez(tmp_path / "same.npz", x_train=X, t_train=T)
    assert cli("verify", tmp_path / "0", "--dataset", tmp_path / "same.npz") == 0


def test_a_trained_network_keeps_its_normalisation(tmp_path: Path) -> None:
    first = fit(NETWORK, epochs=1, normalise="standard", out=tmp_path / "first")
    for i, settings in enumerate(({}, {"normalise": "standard"})):
        found = fit(first.network, epochs=1, out=tmp_path / str(i), **settings)
        assert list(found.network.weights) == list(first.network.weights)


def test_an_object_in_a_setting_does_not_fill_a_page(two: dptrain.Result) -> None:
    with pytest.raises(UsageError) as refused:
        fit(NETWORK, lr=two.network)
    assert "lr=an object of type TrainedNetwork is not allowed" in str(refused.value)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("hold some out with --validation 0.1", "hold some out with validation=0.1"),
        ("give --batch-size 320 or less", "give batch_size=320 or less"),
        ("try --clip-norm 1, or --dtype float64", "try clip_norm=1, or dtype='float64'"),
        ("x; dptrain train --resume a --epochs 3", "x; dptrain train --resume a --epochs 3"),
        ("choose another with --out", "choose another with out="),
        ("with --resume logs/one, or --out", "with resume='logs/one', or out="),
        ("give --l1 or --weight-decay", "give l1= or weight_decay="),
    ],
)
def test_messages_in_python_name_no_flags(said: str, wanted: str) -> None:
    assert as_python(said) == wanted


def test_warnings_of_fit_name_no_flags(tmp_path: Path) -> None:
    network = Network(20, [BatchNorm(), Dense(3)])
    with pytest.warns(RuntimeWarning, match="give batch_size=2 or more"):
        fit(network, steps=2, batch_size=1, out=tmp_path / "run")


def test_messages_of_fit_name_no_flags(two: dptrain.Result) -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"patience": 3}, {"batch_size": 500}, {"out": two.run})
    for wrong in wrongs:
        with pytest.raises(DptrainError) as refused:
            fit(NETWORK, epochs=1, **wrong)
        assert " --" not in str(refused.value).replace("--resume", "")
    assert isinstance(refused.value, RunFolderError)


def test_train_goes_on_as_the_command_line_does(tmp_path: Path) -> None:
    data = str(write_dataset(tmp_path / "small.npz"))
    moved = tmp_path / "moved.npz"
    layers = Network((4, 5), [Flatten(), Dense(3)]).description()

    def wanted(epochs: int, **settings: Any) -> dptrain.Experiment:
        given: dict[str, Any] = {"dataset": data, "layers": layers} | settings
        return dptrain.Experiment(**given, epochs=epochs, batch_size=20)

    def train(experiment: dptrain.Experiment | None, **given: Any) -> dptrain.Result:
        return dptrain.train(experiment, dptrain.Execution(workers=1), progress=False, **given)

    whole = train(wanted(4), out=tmp_path / "whole")
    begun = train(wanted(2), out=tmp_path / "begun")
    assert train(None, resume=begun).digest == begun.digest
    Path(data).rename(moved)
    assert train(wanted(3, dataset=str(moved)), resume=begun.run).epochs[-1].epoch == 3
    moved.rename(data)
    assert train(wanted(4), resume=str(begun.run)).digest == whole.digest
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"seed": 5}, "which has seed=0, not 5"),
        ({"layers": None}, "another network than this one"),
    )
    for settings, said in refused:
        with pytest.raises(UsageError, match=said):
            train(wanted(5, **settings), resume=begun)
    with pytest.raises(RunFolderError, match=r"with resume='.*/begun', or choose"):
        train(wanted(4), out=begun.run)


def test_train_goes_on_with_an_object(tmp_path: Path) -> None:
    def train(epochs: int, **given: Any) -> dptrain.Result:
        np.random.seed(0)
        wanted = dptrain.Experiment(dataset="iris", epochs=epochs, batch_size=50, lr=0.01)
        ways = dptrain.Execution(workers=1)
        return dptrain.train(wanted, ways, network=Net(4), progress=False, **given)

    whole = train(4, out=tmp_path / "whole")
    assert train(4, resume=train(2, out=tmp_path / "begun")).digest == whole.digest
    with pytest.raises(UsageError, match=r"give an object of it, network=Net\(\.\.\.\)"):
        dptrain.train(resume=tmp_path / "begun")
    timer = threading.Thread(target=_interrupt_once_there_is, args=(tmp_path / "s/metrics.jsonl",))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as stop:
        train(100_000, out=tmp_path / "s")
    timer.join()
    way = f"dptrain.train(..., resume={str(tmp_path / 's')!r}), with the same network"
    assert str(stop.value).endswith(f"continue with: {way}")
