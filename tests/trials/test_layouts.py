"""Images whose channels are the first axis."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain.errors import ShapeError
from dptrain.experiment.evaluation_job import evaluation_job
from dptrain.trained import load_run

X = np.random.default_rng(0).random((60, 3, 9, 9))
T = (X[:, 0].mean((1, 2)) > 0.5).astype(int)
LAST = np.moveaxis(X, 1, -1)
LAYERS: Any = [dptrain.Conv2D(2, 3, padding=1), dptrain.ReLU(), dptrain.Flatten(), dptrain.Dense(2)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPTRAIN_CACHE", str(tmp_path / "cache"))


def fitted(x: Any, shape: tuple[int, ...]) -> dptrain.Result:
    net = dptrain.Network(shape, LAYERS)
    return dptrain.fit(net, (x, T), epochs=1, workers=1, progress=False)


def test_channels_first_are_pointed_out() -> None:
    with pytest.warns(RuntimeWarning, match=r"images of 3x9 pixels with 9 channels; .*moveaxis"):
        fitted(X, (3, 9, 9))
    trained = fitted(LAST, (9, 9, 3)).network
    with pytest.raises(ShapeError, match=r"channels first, \(3, 9, 9\); give np\.moveaxis"):
        trained.classify(X)
    with pytest.raises(
        ShapeError, match=r"size=\(5, 5\) does not fit .* move the axis of channels"
    ):
        dptrain.Network((3, 9, 9), [dptrain.Conv2D(2, 5)])


def test_a_single_channel_may_stand_anywhere(tmp_path: Path) -> None:
    one = X[:, :1]
    for shape in ((9, 9), (9, 9, 1)):
        first, last = fitted(one, shape), fitted(one.reshape(60, *shape), shape)
        assert first.digest == last.digest
        np.testing.assert_array_equal(first.network.predict(one), last.network.predict(one))
    paths = [tmp_path / f"{i}.npz" for i in range(2)]
    np.savez(paths[0], x=one, y=T)
    np.savez(paths[1], x=one[:, 0], y=T)
    layers = dptrain.Network((9, 9), LAYERS).description()
    found = []
    for path in paths:
        experiment = dptrain.Experiment(dataset=str(path), layers=layers, epochs=1)
        out = tmp_path / path.stem
        found.append(dptrain.train(experiment, out=out, progress=False).digest)
        trained, _ = load_run(out, "last")
        for other in paths:
            job = evaluation_job(trained.experiment, str(other), None, trained.class_names)
            assert trained.evaluate_split(job.split("test"))
    assert found[0] == found[1]
