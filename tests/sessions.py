"""Small experiments for the tests of whole runs."""

from pathlib import Path
from typing import Any

import numpy as np

from dptrain.coordinator.outcome import Outcome
from dptrain.coordinator.session import Session
from dptrain.coordinator.signals import StopSignal
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.report.observers import SilentObserver


def write_dataset(
    path: Path, *, rows: int = 137, classes: int = 3, regression: bool = False
) -> Path:
    """Write a data set of 4x5 samples as .npz; 137 training rows make a ragged last minibatch."""
    random = np.random.default_rng(11)
    arrays: dict[str, Any] = {}
    for part, count in (("train", rows), ("test", 41)):
        x = random.standard_normal((count, 4, 5))
        arrays[f"x_{part}"] = x
        if regression:
            arrays[f"t_{part}"] = np.stack([x[:, 0, 0] - x[:, 1, 1], x.sum(axis=(1, 2))], axis=1)
        else:
            labels = np.argmax(x[:, :classes, 0] + 0.1 * x[:, :classes, 1], axis=1)
            labels[:classes] = range(classes)
            arrays[f"t_{part}"] = labels
    np.savez(path, **arrays)
    return path


def run(experiment: dict[str, Any], out: Path, **execution: Any) -> Outcome:
    """Carry out an experiment in this process and its workers."""
    stop: StopSignal | None = execution.pop("stop", None)
    settings = {"batch_size": 20, "steps": 9, "model": "mlp:20-7-3"} | experiment
    return Session(
        build(Experiment, settings, "the test"),
        build(Execution, {"log_every": 1} | execution, "the test"),
        SilentObserver(),
        out=out,
    ).run(handle_signals=False, stop=stop)
