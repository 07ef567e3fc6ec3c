"""Whole runs, resumed and not: right ones, and such as lose something on the way."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint import checkpoint
from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator import beginning, run
from dptrain.coordinator.engines import ENGINES
from dptrain.coordinator.progress import Progress
from dptrain.coordinator.run import Run
from dptrain.coordinator.shared import SharedCluster
from dptrain.coordinator.trainer import Trainer
from dptrain.exchange.engine import Alive, State, unheard
from dptrain.exchange.inline import InlineEngine
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.runs import whole as whole_runs
from dptrain.gradcheck.runs.whole import check_runs
from dptrain.gradcheck.verdict import Verdict
from dptrain.metrics.writer import MetricsWriter
from dptrain.trained import flat_parameters
from tests.exchange.build import Data, experiments
from tests.gradcheck.build import data as data
from tests.gradcheck.test_continuity import INLINE, case, program

Patch = pytest.MonkeyPatch
SHARED = Way("shared", 2)


def first_failure(job: Any, ways: list[Way], **keywords: Any) -> tuple[Comparison, list[Diagnosis]]:
    """Return the first comparison that fails, and what it is put down to."""
    for each, explain in check_runs(job, ways, **keywords):
        if each.verdict is not Verdict.PASS:
            return each, list(explain().diagnoses)
    raise AssertionError("nothing fails")


@pytest.mark.parametrize("ways", [[Way("shared", 3)], [SHARED, Way("star", 3)]], ids=str)
def test_right_runs(ways: list[Way], data: Data, capfd: pytest.CaptureFixture[str]) -> None:
    job = case(data, schedule="cosine", clip_norm=0.1)[0]
    found = [each for each, _ in check_runs(job, ways)]
    assert {each.verdict for each in found} == {Verdict.PASS}
    assert {each.edge for each in found} == {"resume"}
    assert all(each.compared for each in found)
    weights = [each for each in found if each.name == "weights in checkpoints = this process's"]
    assert {each.compared for each in weights} == {job.network.size}
    assert sum("checkpoint after step 5" in each.where for each in weights) == 1
    assert sum("checkpoint after step 8" in each.where for each in weights) == 1
    assert {way for way in map(str, ways) if any(way in each.where for each in found)}
    assert capfd.readouterr() == ("", "")


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_false_alarm(data: Data, draws: st.DataObject) -> None:
    job = data.job(draws.draw(experiments(st.integers(1, 7))))
    found = [each for each, _ in check_runs(job, [INLINE])]
    assert {each.verdict for each in found} <= {Verdict.PASS, Verdict.INCONCLUSIVE}
    if Verdict.INCONCLUSIVE in {each.verdict for each in found}:
        assert [each.name for each in found] == ["whole runs"]


def state_lost(patch: Patch) -> None:
    right = beginning.saved_state

    def saved(job: Any, kept: Any) -> State:
        state = right(job, kept)
        return State(state.parameters, [0 * slot for slot in state.slots])

    patch.setattr(run, "saved_state", saved)
    patch.setattr(whole_runs, "saved_state", saved)


def biases_lost(patch: Patch) -> None:
    def flat(network: Any, dtype: Any, kept: Any) -> Any:
        found = flat_parameters(network, dtype, kept)
        for tensor in network.all_tensors():
            if len(tensor.shape) == 1:
                found[tensor.start : tensor.stop] = 0
        return found

    patch.setattr(beginning, "flat_parameters", flat)


def changed_checkpoint(change: Callable[[Trainer, Any], dict[str, Any]]) -> Callable[..., None]:
    def patched(patch: Patch) -> None:
        right = Trainer._checkpoint

        def kept(self: Trainer, state: State) -> Any:
            found = right(self, state)
            return dataclasses.replace(found, **change(self, found))

        patch.setattr(Trainer, "_checkpoint", kept)

    return patched


def exchanged(_: Trainer, found: Any) -> dict[str, Any]:
    mean, squares = found.optimizer.values()
    return {"optimizer": {"mean": squares, "squares": mean}}


def rounded(patch: Patch) -> None:
    named = checkpoint._named

    def narrow(kept: Any) -> Any:
        return {
            name: array.astype("f4") if name.startswith("optimizer/") else array
            for name, array in named(kept).items()
        }

    patch.setattr(checkpoint, "_named", narrow)


def best_is_live(patch: Patch) -> None:
    right = Trainer._save

    def save(self: Trainer, *, best: bool) -> None:
        right(self, best=best)
        if best:
            self._best = self._checkpoint(self.engine.state())

    patch.setattr(Trainer, "_save", save)


def best_only_once(patch: Patch) -> None:
    right = Trainer._write

    def write(self: Trainer, files: Any, kept: Any) -> None:
        best = self._folder.best
        right(self, [each for each in files if each != best or not best.exists()], kept)

    patch.setattr(Trainer, "_write", write)


def resumed_from_best(patch: Patch) -> None:
    def load(path: Path) -> Any:
        best = path.with_name("best.safetensors")
        return load_checkpoint(best if best.exists() else path)

    patch.setattr(run, "load_checkpoint", load)


def steps_again(patch: Patch) -> None:
    patch.setattr(MetricsWriter, "truncate_after", lambda *_: None)


def other_seed(patch: Patch) -> None:
    right = Run._settle

    def settle(self: Run, dataset: Any) -> Any:
        found = right(self, dataset)
        return replace(found, seed=found.seed + self._resumes)

    patch.setattr(Run, "_settle", settle)


def patience_forgotten(patch: Patch) -> None:
    right = Progress.of

    def of(step: int, plain: Any) -> Progress:
        return right(step, plain | {"waited": 0, "best": None})

    patch.setattr(Progress, "of", of)


def other_digest(_: Trainer, found: Any) -> dict[str, Any]:
    return {"digest": digest(found.optimizer["mean"])}


class Behind(InlineEngine):
    """Evaluates the weights before the last step."""

    def _step(self, step: int) -> Any:
        self.before = self.parameters.copy()
        return super()._step(step)

    def evaluate(self, split: str, alive: Alive = unheard) -> Any:
        """Evaluate those."""
        now = self.parameters.copy()
        self.parameters[:] = self.before
        found = super().evaluate(split, alive)
        self.parameters[:] = now
        return found


def evaluated_before(patch: Patch) -> None:
    def engine(_: Any, setting: Any, state: State, __: Any) -> InlineEngine:
        return Behind(setting.job, state.parameters, state.slots)

    patch.setitem(ENGINES, "inline", engine)


def cannot_go_on(patch: Patch) -> None:
    right = Run._engine

    def engine(self: Run, stack: Any, job: Any, data: Any, state: State, first: int) -> Any:
        if first:
            raise RuntimeError(f"nothing to go on with after {first}")
        return right(self, stack, job, data, state, first)

    patch.setattr(Run, "_engine", engine)


MISTAKES: dict[str, tuple[Callable[[Patch], None], str, str]] = {
    "state lost": (state_lost, "state-lost", "Read back from the checkpoint after step 3, which"),
    "biases lost": (biases_lost, "tensor-lost", "dense2.b are zero"),
    "exchanged": (
        changed_checkpoint(exchanged), "state-exchanged", "In the checkpoint after step "
    ),
    "rounded": (rounded, "checkpoint-rounded", "mean and squares are rounded to float32"),
    "best is live": (best_is_live, "best-not-kept", "put back at the end, holds those after"),
    "best only once": (best_only_once, "best-not-kept", "best.safetensors, holds those after"),
    "resumed from best": (
        resumed_from_best, "resumed-elsewhere", "stopped after step 5 goes on after step 3"
    ),
    "steps again": (steps_again, "records-repeated", "more than one record of step 9"),
    "other seed": (other_seed, "experiment-changed", "seed=4 instead of 3"),
    "patience forgotten": (patience_forgotten, "progress-wrong", "best is nan instead of "),
    "other digest": (changed_checkpoint(other_digest), "digest-of-other", "is that of mean after"),
    "one too many": (
        changed_checkpoint(lambda t, _: {"step": t.progress.step + 1}), "step-miscounted",
        "instead of ",
    ),
    "evaluated before": (evaluated_before, "evaluated-elsewhere", "is of the weights after step"),
    "cannot go on": (cannot_go_on, "run-ended", "nothing to go on with after 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str, data: Data, monkeypatch: Patch) -> None:
    mistake, kind, text = MISTAKES[name]
    job = case(data)[0]
    mistake(monkeypatch)
    found, diagnoses = first_failure(job, [INLINE])
    assert found.edge == "resume"
    assert diagnoses[0].kind == kind
    assert text in diagnoses[0].sentence


def test_losses_of_other_steps(data: Data, monkeypatch: Patch) -> None:
    right = SharedCluster._measured

    def measured(self: Any, plan: Any, seconds: float, every: int) -> Any:
        found = right(self, plan, seconds, every)
        losses = self._segment.step_losses
        return [each._replace(loss=float(losses[each.begin])) for each in found]

    monkeypatch.setattr(SharedCluster, "_measured", measured)
    found, diagnoses = first_failure(case(data)[0], [SHARED])
    assert found.where == "in one go, metrics.jsonl"
    assert diagnoses[0].kind == "loss-of-other-step"


def test_a_worker_that_counts_its_steps_anew(data: Data) -> None:
    worker = program(
        "from dptrain.exchange.lockstep import LockstepRank; right = LockstepRank.__init__\n"
        "from dptrain.experiment.job import Job; rows = Job.minibatch\n"
        "run = LockstepRank.run; first = []\n"
        "def counted(rank, begin, end, *more):\n"
        "    first.append(begin)\n"
        "    return run(rank, begin, end, *more)\n"
        "LockstepRank.run = counted\n"
        "Job.minibatch = lambda job, step: rows(job, step - (first or [0])[0])"
    )
    found, diagnoses = first_failure(case(data)[0], [SHARED], worker=worker)
    assert found.where == "resumed, shared, 2 workers, checkpoint after step 6"
    assert diagnoses[0].kind == "step-miscounted"
    assert diagnoses[0].sentence.endswith("from the first again where it chooses its rows.")


def test_an_experiment_without_numbers_shows_nothing(data: Data) -> None:
    init = {"init": "normal", "std": 1e300}
    layers = [{"layer": "flatten"}, {"layer": "dense", "units": 3, "init": init}]
    job = case(data, layers=layers, loss="mean-squared-error")[0]
    ((found, _),) = check_runs(job, [INLINE])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "There are no numbers to compare" in found.note
