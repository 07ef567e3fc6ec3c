"""What other verbs and settings make of a network of the user's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from dptrain.errors import UsageError
from dptrain.experiment.defaults import settle
from dptrain.experiment.own_code import DECIDED_BY_CODE
from dptrain.experiment.schema import Experiment
from dptrain.invocation import word
from dptrain.trained import load_run
from dptrain.weights.params import load_params
from tests.commands import dptrain, result
from tests.own.nets import EXAMPLE, like_the_example
from tests.sessions import write_dataset

SIZES = json.dumps({"input_size": 20, "hidden_size": 7, "output_size": 3, "weight_init_std": 0.3})
OWN = ("--model", EXAMPLE, "--model.args", SIZES)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    data = write_dataset(tmp_path_factory.mktemp("data") / "small.npz")
    return ("--dataset", data, "--batch-size", 30, "--lr", 0.1, "--epochs", 2)


@pytest.fixture(scope="module")
def run(job: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    result("train", *job, *OWN, "--workers", 1, "--out", folder)
    return folder


def refused(*arguments: object) -> str:
    done = dptrain(*arguments)
    assert done.returncode == 2, done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("name", ["small.npz", "small.onnx"])
def test_it_has_no_layers_to_convert(name: str, run: Path, tmp_path: Path) -> None:
    assert "knows the arrays but no layers" in refused("convert", run, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_its_arrays_are_written_as_the_book_does(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "params.pkl"
    result("convert", run, target)
    found = load_params(target)  # what pickle.load would make of it: tests/data/test_pickled.py
    weights = load_run(run, "last")[0].weights
    assert list(found) == ["W1", "b1", "W2", "b2"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, weights[name], strict=True)


def test_it_has_no_layers_to_compress(run: Path, tmp_path: Path) -> None:
    for flags in ((), ("--prune", 0.5, "--out", tmp_path / "small.npz")):
        assert "knows the arrays but no layers" in refused("compress", run, *flags)
    assert not list(tmp_path.iterdir())


def test_evaluate_judges_the_answers(run: Path) -> None:
    scores = result("evaluate", run, "--model", EXAMPLE)
    judged = scores["splits"]["test"]
    assert judged["accuracy"] == scores["test_accuracy"]
    confusion = np.array(judged["confusion"])
    assert confusion.trace() / confusion.sum() == pytest.approx(scores["test_accuracy"])
    printed = dptrain("evaluate", run, "--model", EXAMPLE).stdout
    assert "macro average" in printed
    assert f"{scores['test_accuracy']:.2%} correct" in printed


@pytest.mark.parametrize(
    "predict",
    [
        "predict = None",
        "def predict(self, x): return np.zeros((len(x), 2))",
        "def predict(self, x): return np.full(len(x), -1)",
    ],
)
def test_evaluate_without_answers_to_judge(
    predict: str, job: tuple[object, ...], tmp_path: Path
) -> None:
    model = like_the_example(
        tmp_path,
        f"    {predict}\n"
        "    def loss(self, x, t):\n"
        "        return -np.sum(t * np.log(self._forward(x)[1] + 1e-7)) / len(x)\n"
        "    def accuracy(self, x, t): return 0.25",
    )
    folder = tmp_path / "run"
    own = ("--model", model, "--model.args", SIZES)
    trained = result("train", *job, *own, "--workers", 1, "--out", folder)
    scores = result("evaluate", folder, "--model", model)
    assert scores["splits"] == {}
    assert scores["test_accuracy"] == trained["test_accuracy"]
    printed = dptrain("evaluate", folder, "--model", model)
    assert printed.returncode == 0, printed.stderr
    assert f"{trained['test_accuracy']:.2%} correct" in printed.stdout


GIVEN: dict[str, object] = {
    "activation": "relu",
    "norm": "batch",
    "dropout": 0.1,
    "init": "he",
    "init_std": 0.1,
    "loss": "hinge",
    "label_smoothing": 0.1,
    "class_weights": [1.0, 1.0, 2.0],
    "positive_weight": 2.0,
    "huber_delta": 2.0,
    "normalise": "standard",
    "normalise_targets": "standard",
    "gradient": "numerical",
}


def test_settings_that_the_code_decides() -> None:
    plain = Experiment()
    assert {name: getattr(plain, name) for name in GIVEN} == DECIDED_BY_CODE
    assert settle(Experiment(model=EXAMPLE), 1, 3, 100, "digest").loss is None
    for name, value in GIVEN.items():
        experiment = replace(Experiment(model=EXAMPLE), **{name: value})
        with pytest.raises(UsageError, match=f"{name}=.* leave out --{name.replace('_', '-')}"):
            settle(experiment, 1, 3, 100, "digest")


def test_augmentation_and_early_stopping(job: tuple[object, ...], tmp_path: Path) -> None:
    flags = ("--augment-noise", 0.3, "--validation", 0.2, "--patience", 1, "--train-rows", 60)
    ways: list[tuple[object, ...]] = [
        ("--workers", 1),
        ("--workers", 3, "--exchange", "star"),
    ]
    found = [
        result("train", *job, *OWN, *flags, *way, "--out", tmp_path / str(i))
        for i, way in enumerate(ways)
    ]
    assert len({each["digest"] for each in found}) == 1
    without = result("train", *job, *OWN, *flags[2:], "--workers", 1, "--out", tmp_path / "plain")
    assert without["digest"] != found[0]["digest"]


def test_beginning_with_saved_weights(run: Path, job: tuple[object, ...], tmp_path: Path) -> None:
    flags = ("--init-from", run, "--workers", 2, "--out", tmp_path / "on", "--lr", 1e-30)
    result("train", *job[:4], "--epochs", 1, *OWN, *flags, "--optimizer", "sgd")
    saved, begun = (load_run(each, "last")[0].weights for each in (run, tmp_path / "on"))
    for name, value in saved.items():
        np.testing.assert_array_equal(begun[name], value)


def test_a_search_over_its_arguments(job: tuple[object, ...], tmp_path: Path) -> None:
    search = tmp_path / "search"
    params = ("--param", "model_args.hidden_size=3,5", "--lr", 0.3)
    told = result("tune", *job[:4], "--epochs", 1, *OWN, *params, "--out", search)
    assert told["finished"]
    trials: dict[int, Any] = {}
    for line in (search / "trials.jsonl").read_text().splitlines():
        trial = json.loads(line)
        trials[trial["parameters"]["model_args.hidden_size"]] = trial
    assert len(trials) == 2
    alone = result(
        "train",
        *(*job[:4], "--epochs", 1, "--lr", 0.3, "--model", EXAMPLE),
        *("--model.args", SIZES.replace("7", "5"), "--workers", 2, "--out", tmp_path / "alone"),
    )
    assert trials[5]["digest"] == alone["digest"]
    assert f"add --model {word(EXAMPLE)}" in refused("tune", "--resume", search)
    again = result("tune", "--resume", search, "--model", EXAMPLE)
    assert again["finished"]
    printed = dptrain("tune", "--resume", search, "--model", EXAMPLE).stdout
    assert f"experiment.toml --model {word(EXAMPLE)}" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--param", "model.hidden=3,4"), "use paths such as model_args.hidden_size"),
        (("--param", f"model={EXAMPLE},mlp:20-3"), "name one network with --model"),
        (("--param", "loss=hinge,huber"), "means nothing to"),
    ],
)
def test_what_a_search_cannot_do(
    flags: tuple[object, ...], message: str, job: tuple[object, ...], tmp_path: Path
) -> None:
    done = dptrain("tune", *job, *OWN, *flags, "--out", tmp_path / "search")
    assert done.returncode in (1, 2)
    assert message in (done.stdout + done.stderr).replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_recorded_search_names_no_code(run: Path, tmp_path: Path) -> None:
    told = refused(
        "tune", run / "experiment.toml", "--param", "lr=0.1,0.2", "--out", tmp_path / "search"
    )
    assert f"add --model {word(EXAMPLE)}" in told
    assert not (tmp_path / "search").exists()
