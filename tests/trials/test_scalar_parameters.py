"""Parameters without an axis: a scale, a temperature."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain.trained import load_run

X = np.random.default_rng(0).standard_normal((40, 3))
T = X @ [1.0, -2.0, 0.5] * 3


class Scaled:
    def __init__(self) -> None:
        self.params = {"w": np.ones(3), "scale": np.array(1.0)}

    def predict(self, x: Any) -> Any:
        return x @ self.params["w"] * self.params["scale"]

    def loss(self, x: Any, t: Any) -> float:
        return float(np.mean((self.predict(x) - t) ** 2))

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        w, scale = self.params["w"], self.params["scale"]
        error = 2 * (self.predict(x) - t) / len(x)
        return {"w": error @ x * scale, "scale": np.asarray(error @ (x @ w))}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_checkpoint_brings_them_back(tmp_path: Path, workers: int) -> None:
    settings: dict[str, Any] = {"epochs": 5, "batch_size": 8, "optimizer": "adam", "lr": 0.1}
    out = tmp_path / "run"
    found = dptrain.fit(
        Scaled(), (X, T), out=out, workers=workers, progress=False, dtype="float64", **settings
    )
    trained, saved = load_run(out, "last", Scaled())
    assert saved.tensors["scale"].shape == ()
    assert saved.tensors["scale"] != 1
    np.testing.assert_array_equal(trained.predict(X), found.network.predict(X))
