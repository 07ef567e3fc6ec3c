"""Runs that are stopped and read back: right ones, and such as lose something on the way."""

from typing import Any

import numpy as np
import pytest

from dptrain.checkpoint import checkpoint
from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator.shared import SharedCluster
from dptrain.exchange.engine import State
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.runs import resume
from dptrain.gradcheck.runs.resume import check_resume
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Program
from tests.exchange.build import OPTIMIZERS, Data
from tests.gradcheck.build import LAYERS
from tests.gradcheck.build import data as data
from tests.gradcheck.test_continuity import INLINE, WAYS, case


def compared(*arguments: Any, worker: Program = WORKER) -> tuple[list[Comparison], list[Diagnosis]]:
    """Return all comparisons, and what the first that failed is put down to."""
    found = list(check_resume(*arguments, worker=worker))
    failed = [explain for each, explain in found if each.verdict is Verdict.FAIL]
    return [each for each, _ in found], list(failed[0]().diagnoses) if failed else []


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_workers_resume(way: Way, data: Data, workers: Program) -> None:
    job, folder, state = case(data, clip_norm=0.5, schedule="cosine")
    found, _ = compared(job, folder, way, state, worker=workers)
    assert [(c.name, c.edge, c.verdict, c.compared) for c in found] == [
        (f"{what} resumed after step 3 = not interrupted", "resume", Verdict.PASS, job.network.size)
        for what in ("weights", "mean", "squares")
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_resumes(optimizer: str, data: Data) -> None:
    job, folder, state = case(data, optimizer=optimizer, layers=LAYERS)
    assert {c.verdict for c in compared(job, folder, INLINE, state)[0]} == {Verdict.PASS}


def test_a_state_that_is_not_read_back(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:

    def load(file: Any) -> Any:
        found = load_checkpoint(file)
        for slot in found.optimizer.values():
            slot[:] = 0
        return found

    monkeypatch.setattr(resume, "load_checkpoint", load)
    job, folder, state = case(data)
    found, diagnoses = compared(job, folder, INLINE, state)
    assert [c.verdict for c in found] == [Verdict.FAIL] * 3
    assert [(d.kind, d.sentence) for d in diagnoses] == [
        (
            "state-lost",
            "Read back from a checkpoint after step 3, the optimizer's mean and squares are zero.",
        )
    ]


def test_a_state_that_is_rounded(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    named = checkpoint._named

    def rounded(kept: Any) -> Any:
        found = named(kept)
        return {n: a.astype(np.float32) if "optimizer/" in n else a for n, a in found.items()}

    monkeypatch.setattr(checkpoint, "_named", rounded)
    job, folder, state = case(data)
    _, (found,) = compared(job, folder, INLINE, state)
    assert found.kind == "checkpoint-rounded"
    assert "the optimizer's mean and squares are rounded to float32" in found.sentence


def test_a_state_that_is_put_where_no_step_reads_it(
    data: Data, monkeypatch: pytest.MonkeyPatch, workers: Program
) -> None:
    begin = SharedCluster.__init__

    def begun(cluster: Any, setting: Any, state: State) -> None:
        begin(cluster, setting, state)
        if setting.first_step:
            kept = cluster._segment.states
            for array, other in zip(_arrays(kept[1]), _arrays(kept[0]), strict=True):
                other[:], array[:] = array.copy(), 0

    monkeypatch.setattr(SharedCluster, "__init__", begun)
    job, folder, state = case(data)
    _, diagnoses = compared(job, folder, WAYS[0], state, worker=workers)
    assert diagnoses[0].kind == "resumed-elsewhere"
    assert diagnoses[0].sentence.startswith("The run that was resumed after step 3 went on with ze")


def _arrays(state: State) -> list[Any]:
    return [state.parameters, *state.slots]
