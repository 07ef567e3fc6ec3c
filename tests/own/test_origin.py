"""Code is imported because the user has named it, and for no other reason."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare
from dptrain.errors import OwnCodeError, UsageError
from dptrain.experiment.defaults import settle
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment
from dptrain.own.object_origin import ObjectOrigin, origin_of
from dptrain.own.origin import Named, demand, is_own
from tests.own.nets import EXAMPLE, FUNCTION, Net
from tests.sessions import write_dataset

SIZES = {"input_size": 20, "hidden_size": 7, "output_size": 3}


def test_names() -> None:
    assert is_own("my_net.py:Net")
    assert is_own("/a:b/my_net.py:Net")
    assert not any(map(is_own, ("mlp:784-50-10", "two-layer", "network", "my_net.py", "net:py")))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("my_net:Net", "does not name code"),
        (f"{EXAMPLE}.x", "does not name code"),
        (EXAMPLE.replace("own_network", "own_netwrk"), "did you mean 'own_network.py'"),
    ],
)
def test_what_names_no_code(model: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Named(model)


def test_finding_a_file_runs_nothing_of_it(tmp_path: Path) -> None:
    file = tmp_path / "marking.py"
    mark = str(tmp_path / "mark")
    file.write_text(f"import pathlib\npathlib.Path({mark!r}).touch()\nclass Net: pass")
    origin = Named(f"{file}:Net")
    assert origin_of(origin.message()) is not None
    with pytest.raises(UsageError, match=r"add --model marking.py:Net"):
        demand("marking.py:Net", None)
    assert not (tmp_path / "mark").exists()
    with pytest.raises(UsageError, match=r"Net has no gradient|Net.params is None"):
        origin.make(None, 0)
    assert (tmp_path / "mark").exists()


def test_a_job_does_not_import_what_its_experiment_says(tmp_path: Path) -> None:
    data = prepare(str(write_dataset(tmp_path / "small.npz")), dtype="float32")
    dataset = open_dataset(data, validation=0, test=0.2, seed=0)
    file = tmp_path / "net.py"
    file.write_text("raise SystemExit")
    given = Experiment(model=f"{file}:Net", model_args={})
    settled = settle(given, 1, 3, len(dataset.train), dataset.digest)
    with pytest.raises(UsageError, match=r"add --model .*net.py:Net"):
        Job(settled, dataset)
    with pytest.raises(UsageError, match="is not what the experiment was recorded with"):
        Job(settled, dataset, Named(EXAMPLE))
    with pytest.raises(OwnCodeError, match=r"the import of .*net.py raised SystemExit"):
        Job(settled, dataset, Named(f"{file}:Net"))


def test_other_code_than_that_of_the_experiment() -> None:
    origin = Named(EXAMPLE)
    origin.check("elsewhere/own_network.py:TwoLayerNet", origin.digest)
    with pytest.raises(UsageError, match="has changed: the experiment was recorded with SHA-256 0"):
        origin.check(EXAMPLE, "0" * 64)


def test_the_seed_decides_what_a_constructor_draws() -> None:
    weights = [Named(EXAMPLE).make(SIZES, seed).params["W1"] for seed in (3, 3, 4)]
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).all()
    message = Named(EXAMPLE).message()
    sent = origin_of(message)
    assert sent is not None
    assert (sent.make(SIZES, 3).params["W1"] == weights[0]).all()
    assert (Named(EXAMPLE, SIZES).make({"input_size": 1}, 3).params["W1"] == weights[0]).all()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("class Nett: pass", "Net", "no class or function 'Net'; did you mean 'Nett'"),
        ("Net = 3", "Net", "no class or function 'Net'"),
        ("def f(p, x, t): pass", "f", r"no function initial_params\(\)"),
        ("def initial_params(): pass\ndef f(p, x, t): pass", "f", "f.params is None"),
        ("class Net:\n def __init__(self, n): pass", "Net", r"Net\(n\) cannot be called with \{\}"),
    ],
)
def test_files_that_do_not_do(text: str, name: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        Named(f"{file}:{name}").make(None, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_there", "the import of .* raised ModuleNotFoundError"),
        ("class Net(:", "raised SyntaxError"),
        ("class Net:\n def __init__(self): 1 / 0", r"Net\(...\) raised ZeroDivisionError"),
    ],
)
def test_files_that_raise(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(text)
    with pytest.raises(OwnCodeError, match=message) as caught:
        Named(f"{file}:Net").make(None, 0)
    assert str(file) in caught.value.traceback


def test_a_file_finds_its_neighbours_and_bears_the_name_of_a_library(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_json.py").write_text("PARAMS = {'W': __import__('numpy').ones(2)}")
    file = tmp_path / "json.py"
    file.write_text(
        "from neighbour_of_json import PARAMS\nclass Net:\n params = PARAMS\n"
        " def gradient(self, x, t): return self.params\n def loss(self, x, t): return 0.0"
    )
    model = Named(f"{file}:Net").make(None, 0)
    assert (model.params["W"] == np.ones(2)).all()
    import json

    assert json.loads("[]") == []
    assert sys.path[0] != str(tmp_path)
    sys.path.remove(str(tmp_path))


def test_given_objects() -> None:
    subject = Net()
    origin = ObjectOrigin(subject)
    assert origin.model == "tests/own/nets.py:Net"
    assert origin.make(None, 0).subject is subject
    sent = origin_of(origin.message())
    assert sent is not None
    assert (sent.model, sent.digest) == (origin.model, origin.digest)
    copy = sent.make(None, 0).subject
    assert type(copy) is Net
    assert copy.layers["Affine1"].W is copy.params["W1"]
    assert (copy.params["W1"] == subject.params["W1"]).all()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Net, "Net is a class; give an object of it"),
        (3, "3 is no network"),
        (len, "len is a function; give its initial parameters"),
    ],
)
def test_what_is_no_network(network: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ObjectOrigin(network)


def test_an_origin_of_nothing() -> None:
    assert origin_of(b"") is None
    assert Named(FUNCTION).make({"inputs": 4}, 0).params["W1"].shape == (4, 32)
