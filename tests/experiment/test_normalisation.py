"""Normalisation by the training rows: of no others, once, and the same everywhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.coordinator.session import Session
from dptrain.data.dataset import Split, open_dataset
from dptrain.data.prepared import prepare
from dptrain.errors import DataError, UsageError
from dptrain.experiment.execution import Execution
from dptrain.experiment.normalisation import shift_and_scale
from dptrain.experiment.schema import Experiment
from dptrain.nn.network import Network
from dptrain.nn.normalise import Method
from dptrain.report.observers import SilentObserver
from dptrain.runfolder import RunFolder
from dptrain.trained import load_run
from tests.sessions import run

DOUBLE = np.dtype("float64")
CONSTANTS = ("normalise1.shift", "normalise1.scale")
SETTINGS: dict[str, Any] = {"model": "mlp:3-5-2", "batch_size": 20, "steps": 11}


def rows(count: int = 70) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return samples of three columns of which the last never varies."""
    random = np.random.default_rng(4)
    x = random.standard_normal((count, 3)) * [1000, 0.01, 0] + [-5000, 3, 0.1]
    return x, (x[:, 0] > -5000).astype(np.int64)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    x, t = rows()
    return saved(tmp_path / "data.npz", x, t)


def saved(path: Path, x: NDArray[Any], t: NDArray[Any], **test: Any) -> Path:
    np.savez(path, x_train=x, t_train=t, **test)
    return path


def split(x: NDArray[Any]) -> Split:
    return Split(x, np.zeros(len(x), np.int64))


def test_standard_gives_mean_0_and_variance_1() -> None:
    x, _ = rows()
    shift, scale = shift_and_scale(split(x), "standard", DOUBLE)
    y = (x - shift) / scale
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axis=0), [1, 1, 0], atol=1e-12)


def test_minmax_gives_0_to_1() -> None:
    x, _ = rows()
    shift, scale = shift_and_scale(split(x), "minmax", DOUBLE)
    y = (x - shift) / scale
    np.testing.assert_array_equal(y.min(axis=0), [0, 0, 0])
    np.testing.assert_array_equal(y.max(axis=0), [1, 1, 0])


@pytest.mark.parametrize("method", ["standard", "minmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_input_that_never_varies_is_not_blown_up(method: Method, dtype: str) -> None:
    x = np.full((30, 2), [0.1, 0.0], dtype)  # thirty times 0.1 is not 3: the mean is rounded
    shift, scale = shift_and_scale(split(x), method, np.dtype(dtype))
    assert scale.tolist() == [1, 1]
    np.testing.assert_allclose(shift, x[0], rtol=1e-15)


def test_what_a_dtype_cannot_hold() -> None:
    wide = np.array([[0.0, -3e38], [1.0, 3e38]], np.float32)
    with pytest.raises(DataError, match=r"at \(1,\) lie from -3e\+38 to 3e\+38.*float32"):
        shift_and_scale(split(wide), "minmax", np.dtype("float32"))
    narrow = np.array([[1e-300], [2e-300]])  # its deviation is 0 once it is squared
    assert shift_and_scale(split(narrow), "standard", DOUBLE)[1].tolist() == [1]


@pytest.mark.parametrize("method", ["standard", "minmax"])
def test_every_execution_agrees_and_nothing_moves_the_constants(
    method: str, data: Path, tmp_path: Path
) -> None:
    experiment = SETTINGS | {"dataset": str(data), "normalise": method, "validation": 0.1}
    experiment |= {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 0.1}
    ways: list[dict[str, Any]] = [
        {"workers": 1},
        {"workers": 2},
        {"workers": 3},
        {"workers": 2, "exchange": "star"},
        {"workers": 3, "exchange": "star", "transport": "tcp"},
    ]
    found = [run(experiment, tmp_path / str(i), **way) for i, way in enumerate(ways)]
    assert len({each.digest for each in found}) == 1
    job = found[0].job
    begun, ended = (
        job.network.views(flat) for flat in (job.initial_parameters(), found[0].parameters)
    )
    for name in CONSTANTS:
        assert ended[name].tobytes() == begun[name].tobytes()
    assert ended["dense1.W"].tobytes() != begun["dense1.W"].tobytes()
    x, _ = job.dataset.train.take(np.arange(len(job.dataset.train)), np.float32)
    y = (x - ended[CONSTANTS[0]]) / ended[CONSTANTS[1]]
    where = (y.mean(axis=0), y.var(axis=0)) if method == "standard" else (y.min(0), y.max(0))
    np.testing.assert_allclose(where, [[0, 0, 0], [1, 1, 0]], atol=1e-3)  # float32


def test_rows_held_out_have_no_influence(data: Path, tmp_path: Path) -> None:
    experiment = SETTINGS | {"dataset": str(data), "normalise": "standard", "validation": 0.2}
    first = run(experiment, tmp_path / "first", workers=1)
    x, t = rows()
    for name in ("validation", "test"):
        index = first.job.split(name).index
        assert index is not None
        changed = x.copy()
        changed[index] = 1e6
        moved = experiment | {"dataset": str(saved(tmp_path / f"{name}.npz", changed, t))}
        assert run(moved, tmp_path / name, workers=2).digest == first.digest
    index = first.job.dataset.train.index
    assert index is not None
    x[index[0], 0] += 1
    moved = experiment | {"dataset": str(saved(tmp_path / "moved.npz", x, t))}
    assert run(moved, tmp_path / "train", workers=1).digest != first.digest


def test_a_test_part_has_no_influence(tmp_path: Path) -> None:
    x, t = rows()
    digests = []
    for i, factor in enumerate((1, 5)):
        path = saved(tmp_path / f"{i}.npz", x, t, x_test=factor * x[:9], t_test=t[:9])
        experiment = SETTINGS | {"dataset": str(path), "normalise": "minmax"}
        digests.append(run(experiment, tmp_path / str(i), workers=1).digest)
    assert digests[0] == digests[1]


def test_a_resumed_run_keeps_its_constants(data: Path, tmp_path: Path) -> None:
    experiment = SETTINGS | {"dataset": str(data), "normalise": "standard"}
    whole = run(experiment, tmp_path / "whole", workers=2)
    run(experiment | {"steps": 4}, tmp_path / "part", workers=1)
    folder = RunFolder.resume(tmp_path / "part")
    described = Experiment(**experiment | {"shards": whole.job.shards})
    session = Session(described, Execution(workers=2), SilentObserver(), resumed=folder)
    assert session.run(handle_signals=False).digest == whole.digest


def test_predicting_and_evaluating_take_raw_inputs(data: Path, tmp_path: Path) -> None:
    experiment = SETTINGS | {"dataset": str(data), "normalise": "standard", "dtype": "float64"}
    outcome = run(experiment, tmp_path / "run", workers=1)
    trained, _ = load_run(tmp_path / "run", "last")
    w = trained.weights
    x, t = outcome.job.dataset.test.take(np.arange(5), np.float64)
    hidden = np.maximum((x - w[CONSTANTS[0]]) / w[CONSTANTS[1]] @ w["dense1.W"] + w["dense1.b"], 0)
    y = hidden @ w["dense2.W"] + w["dense2.b"]
    np.testing.assert_allclose(trained.outputs(x), y, rtol=1e-12, atol=1e-12)
    test = outcome.job.dataset.test
    whole = test.take(np.arange(len(test)), np.float64)
    last = outcome.evaluation
    assert last is not None
    assert trained.accuracy(*whole) == last.test_accuracy
    assert trained.evaluate(*whole).plain()["accuracy"] == last.test_accuracy
    assert trained.evaluate(*whole).plain() == trained.evaluate_split(test).plain()
    assert len(t) == 5


def test_layers_of_ones_own_and_images(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 4, 4)).astype(np.uint8)
    x[:, 0, 0] = 0  # as the corners of MNIST's images are
    path = saved(tmp_path / "images.npz", x, np.arange(40) % 2)
    layers = [{"layer": "flatten"}, {"layer": "dense", "units": 2}]
    own = {"dataset": str(path), "normalise": "standard", "batch_size": 10, "steps": 4}
    found = [
        run(own | {"layers": layers}, tmp_path / "own", workers=2),
        run(own | {"model": "mlp:16-2"}, tmp_path / "named", workers=2),
    ]
    for each in found:
        assert isinstance(each.job.network, Network)
        assert each.job.network.names == ("normalise1", "flatten1", "dense1")
        scale = each.job.network.views(each.parameters)["normalise1.scale"]
        assert scale.shape == (4, 4)
        assert scale[0, 0] == 1
        assert (scale.reshape(-1)[1:] < 0.5).all()


def test_in_the_midst_of_a_network_it_is_refused(data: Path, tmp_path: Path) -> None:
    last: list[dict[str, Any]] = [{"layer": "dense", "units": 2}]
    inside = [{"layer": "residual", "layers": [{"layer": "normalise"}]}]
    for layers in ([*last, {"layer": "normalise"}], [{"layer": "relu"}, *inside, *last]):
        experiment = SETTINGS | {"dataset": str(data), "layers": layers}
        with pytest.raises(UsageError, match="normalise1 stands behind other layers"):
            run(experiment, tmp_path / "run", workers=1)
    twice = SETTINGS | {"dataset": str(data), "normalise": "minmax"}
    twice |= {"layers": [{"layer": "normalise"}, *last]}
    with pytest.raises(UsageError, match="normalise2 stands behind other layers"):
        run(twice, tmp_path / "run", workers=1)


def test_whole_numbers_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "ages.csv"
    path.write_text("age,one,y\n" + "".join(f"{i},7,{i % 2}\n" for i in range(20, 60)))
    experiment = {"dataset": str(path), "model": "linear", "normalise": "standard", "test": 0.0}
    outcome = run(experiment | {"batch_size": 10}, tmp_path / "run", workers=1)
    shift, scale = (outcome.job.network.views(outcome.parameters)[name] for name in CONSTANTS)
    np.testing.assert_allclose(shift, [39.5, 7])
    np.testing.assert_allclose(scale, [np.sqrt((40**2 - 1) / 12), 1])
    folder = prepare(str(path), dtype="float32")
    assert open_dataset(folder, validation=0, test=0, seed=0).sample_shape == (2,)


def test_nothing_is_added_unless_it_is_asked_for(data: Path, tmp_path: Path) -> None:
    outcome = run(SETTINGS | {"dataset": str(data)}, tmp_path / "run", workers=1)
    assert isinstance(outcome.job.network, Network)
    assert outcome.job.network.names == ("dense1", "relu1", "dense2")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["test_r2"] is None
