"""The numbers by which inputs are normalised: right ones pass, wrong ones are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.data.dataset import Split
from dptrain.data.statistics import input_statistics
from dptrain.data.target_scale import target_scale_of
from dptrain.experiment import normalisation
from tests.gradcheck.minibatches.cases import Case, case

METHODS = ("standard", "minmax")


def normalised(folder: Path, method: str = "standard", **settings: Any) -> Case:
    """Return a job on inputs of very different size, one of which never varies."""
    x = np.random.default_rng(2).standard_normal((60, 5)) * [1, 1e-6, 1e5, 1, 0] + [0, 0, 1e6, 9, 3]
    return case(
        folder, x, normalise=method, layers=None, model="mlp:5-4-3", input_shape=None, **settings
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
def test_right_numbers(method: str, dtype: str, tmp_path: Path) -> None:
    found = normalised(tmp_path / "data", method, dtype=dtype)
    assert found.passes()
    assert found.checked()[-1].name == "normalisation = the training rows'"


def changed(change: Any) -> Any:
    return lambda train, dtype: change(input_statistics(train, dtype))


WRONG = {
    "variance": (
        changed(lambda s: s._replace(deviation=s.deviation**2)),
        "standard", "normalisation-scale: Inputs are divided by their variance, not its root.",
    ),
    "unbiased": (
        changed(lambda s: s._replace(deviation=s.deviation * np.sqrt(29 / 28))),
        "standard", "normalisation-scale: The variance is divided by n - 1, not by n.",
    ),
    "all rows": (
        lambda train, dtype: input_statistics(Split(train.inputs, train.targets), dtype),
        "standard", "normalisation-rows: The numbers are those of all rows",
    ),
    "all rows, minmax": (
        lambda train, dtype: input_statistics(Split(train.inputs, train.targets), dtype),
        "minmax", "normalisation-rows: The numbers are those of all rows",
    ),
    "not the range": (
        changed(lambda s: s._replace(low=0 * s.low)),
        "minmax", "normalisation-",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_numbers(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    change, method, wanted = WRONG[name]
    right = normalised(tmp_path / "data", method)
    monkeypatch.setattr(normalisation, "input_statistics", change)
    assert ": ".join(right.named()).startswith(wanted)


def test_numbers_never_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dptrain.experiment import job

    right = normalised(tmp_path / "data")
    monkeypatch.setattr(job, "fit_normalisation", lambda *_: None)
    assert right.named()[0] == "normalisation-missing"


def standardised(folder: Path) -> Case:
    """Return a job on targets that are standardised, of which one column never varies."""
    t = np.random.default_rng(3).standard_normal((60, 3)) * [1, 1e6, 0] + [1e9, 0, 3]
    return case(folder, t=t, normalise_targets="standard", layers=None, model="mlp:5-4-3",
                input_shape=None)  # fmt: skip


def test_right_scale_of_targets(tmp_path: Path) -> None:
    found = standardised(tmp_path / "data")
    assert found.passes()
    assert found.checked()[-1].name == "targets' scale = the training rows'"


def test_wrong_scale_of_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(normalisation, "target_scale_of", lambda t, _: target_scale_of(t, None))
    assert standardised(tmp_path / "data").named()[0] == "target-scale"
