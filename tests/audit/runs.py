"""Runs for the tests of verify and bisect, and what can be done to their folders."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dptrain.audit.bisect import Bisection, bisect
from dptrain.audit.history import read_history
from dptrain.audit.replay import Replay
from dptrain.audit.verify import Verification, verify
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dptrain.coordinator.outcome import Outcome
from dptrain.coordinator.session import Session
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.report.observers import SilentObserver
from dptrain.runfolder import RunFolder
from tests.sessions import run

EPOCH = 7  # steps: 137 rows in minibatches of 20, the last of them ragged


def epochs(data: Path, out: Path, count: int = 2, **settings: Any) -> Path:
    """Train whole epochs; fields of the execution go where they belong."""
    execution = {
        key: settings.pop(key) for key in list(settings) if key in Execution.__struct_fields__
    }
    experiment = {"dataset": str(data), "steps": None, "epochs": count} | settings
    run(experiment, out, **({"workers": 1} | execution))
    return out


def resumed(out: Path, **changes: Any) -> Outcome:
    """Continue a run with changed settings, by one process."""
    keep = changes.pop("keep_checkpoints", None)
    experiment = read_history(out).phases[-1][1]
    return Session(
        build(Experiment, {f: getattr(experiment, f) for f in _set(experiment)} | changes, "test"),
        Execution(workers=1, log_every=1, keep_checkpoints=keep),
        SilentObserver(),
        resumed=RunFolder.resume(out),
    ).run(handle_signals=False)


def _set(experiment: Experiment) -> list[str]:
    fields = Experiment.__struct_fields__
    return [each for each in fields if getattr(experiment, each) is not None]


def verified(out: Path, count: int | None = None, seed: int = 0) -> Verification:
    """Re-execute a run, or so many of its windows."""
    history = read_history(out)
    return verify(history, Replay(history, None), count=count, seed=seed, tell=lambda _: None)


def bisected(one: Path, other: Path) -> Bisection:
    """Return where two runs part."""
    return bisect(read_history(one), read_history(other))


def edit_lines(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change records of a run in place."""
    file = out / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        change(line)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def keep_lines(out: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Leave only some of a run's records."""
    file = out / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if wanted(json.loads(line))))


def edit_checkpoint(out: Path, name: str, change: Callable[[Checkpoint], None]) -> None:
    """Change the arrays of a checkpoint; its checksum is made anew."""
    file = out / "checkpoints" / f"{name}.safetensors"
    checkpoint = load_checkpoint(file)
    change(checkpoint)
    save_checkpoint(file, replace(checkpoint))


def flip_bit(array: Any, *place: int) -> None:
    """Flip the last bit of an element."""
    bits = array.view(np.uint32)
    bits[place] ^= 1
