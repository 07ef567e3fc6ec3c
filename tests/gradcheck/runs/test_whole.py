"""Whole runs, resumed and not: right ones, and such as lose something on the way."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.runs.whole import check_runs
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from tests.exchange.build import Data, experiments
from tests.gradcheck.build import data as data
from tests.gradcheck.slips import Slip
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
def test_right_runs(
    ways: list[Way], data: Data, workers: Program, capfd: pytest.CaptureFixture[str]
) -> None:
    job = case(data, schedule="cosine", clip_norm=0.1)[0]
    found = [each for each, _ in check_runs(job, ways, worker=workers)]
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


TRAINER, RUN, BEGINNING = (
    "coordinator.trainer:Trainer",
    "coordinator.run",
    "coordinator.initial_state",
)
SLIPS = [
    Slip(f"{BEGINNING}:saved_state", "np.array(saved)", "0 * saved",
         "state-lost: Read back from the checkpoint after step 3, which is right, the optimizer's "
         "mean and squares are zero."),
    Slip("trained:flat_parameters", ".reshape(-1)", ".reshape(-1) * (len(tensor.shape) > 1)",
         "tensor-lost: Read back from the checkpoint after step 3, which is right, dense1.b"),
    Slip(f"{TRAINER}._checkpoint", "zip(names, state.slots", "zip(names, state.slots[::-1]",
         "state-exchanged: In the checkpoint after step 3, the optimizer's mean and squares"),
    Slip("checkpoint.checkpoint:_named", "_SLOT + name: array", "_SLOT + name: array.astype('f4')",
         "checkpoint-rounded: In the checkpoint after step 3, the optimizer's mean and squares"),
    Slip(f"{TRAINER}._copied",
         "TrainingState(np.array(state.parameters), list(map(np.array, state.slots)))", "state",
         "best-not-kept: In the checkpoint of the best weights, after step "),
    Slip(f"{TRAINER}._save", "if best:\n    files",
         "if best and not self._folder.best.exists():\n    files",
         "run-ended: The run ended: AssertionError"),
    Slip(f"{TRAINER}._write", "for file in files", "for file in files[len(files) > 1:]",
         "checkpoint-missing: There is no checkpoint "),
    Slip(f"{TRAINER}._write", "save_checkpoint(file, checkpoint)",
         "file.exists() and file == self._folder.best or save_checkpoint(file, checkpoint)",
         "best-not-kept: In the checkpoint of the best weights, after step 6, best.safetensors, "),
    Slip(f"{RUN}:Run._carry_out", "load_checkpoint(folder.last)",
         "load_checkpoint(folder.best if folder.best.exists() else folder.last)",
         "resumed-elsewhere: The run that was stopped after step 5 goes on after step 3."),
    Slip("metrics.writer:MetricsWriter.truncate_after", "record.step <= step and", "",
         "records-repeated: There is a record too many of step 9"),
    Slip(f"{RUN}:Run._settle", "return settled", "return replace(settled, seed=3 + self._resumes)",
         "experiment-changed: The experiment has changed, to seed=4 instead of 3: "),
    Slip("coordinator.progress:RunProgress.of", '_number(plain.get("best"), -math.inf)',
         "-math.inf",
         "progress-wrong: best after step 3 is None instead of "),
    Slip(f"{TRAINER}._checkpoint", "digest(state.parameters)", "digest(state.slots[0])",
         "digest-of-other: What is kept as the digest after step 3 is the digest of mean"),
    Slip(f"{TRAINER}._checkpoint", "step=self.progress.step,", "step=self.progress.step + 1,",
         "step-miscounted: step after step 3 is 4 instead of 3: "),
    Slip(f"{TRAINER}._evaluated", "evaluate(split, alive)", "evaluate('train', alive)",
         "scores-exchanged: What is kept as validation_loss after step 3 is train_loss"),
    Slip(f"{TRAINER}._close_epoch", "scores = {split: self._evaluated(split) for split in SPLITS}",
         "now = {split: self._evaluated(split) for split in SPLITS}; "
         "scores, self._old = getattr(self, '_old', now), now",
         "evaluated-elsewhere: What is kept as train_loss after step 6 is train_loss after"),
    Slip(f"{TRAINER}._record", "self._metrics.write(record)",
         "isinstance(record, EpochRecord) and self._metrics.write(record)",
         "records-lost: There is no record of step 1"),
    Slip(f"{TRAINER}._record_digests", "if self", "if not self",
         "records-repeated: There is a record too many of digests 6"),
    Slip(f"{TRAINER}._log", "done.end / self", "done.end * self",
         "step-miscounted: step's epoch after step 1 is 3 instead of 0.33"),
    Slip(f"{RUN}:Run._engine", "key = new_key()", "key = new_key(); 1 // (first_step != 3)",
         "run-ended: The run that was resumed after step 3 ended before its first step was done"),
]  # fmt: skip
WITH_WORKERS = [
    Slip("coordinator.shared:SharedCluster._measured", "(end - 1) % RING", "begin % RING",
         "loss-of-other-step: What is kept as the loss after step 6 is the loss after step 5: "),
    Slip("coordinator.shared:SharedCluster.__init__", "self._began % 2", "0",
         "resumed-elsewhere: The run that was resumed after step 3 went on with everything zero."),
]  # fmt: skip


@pytest.mark.parametrize("slip", [*SLIPS, *WITH_WORKERS], ids=str)
def test_slips_are_named(slip: Slip, data: Data, workers: Program, monkeypatch: Patch) -> None:
    job, ways = case(data)[0], [SHARED if slip in WITH_WORKERS else INLINE]
    slip.let_loose(monkeypatch)
    found, diagnoses = first_failure(job, ways, worker=workers)
    assert found.edge == "resume"
    assert f"{diagnoses[0].kind}: {diagnoses[0].sentence}".startswith(slip.told)


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
    assert found.where == "resumed, shared, 1 worker, checkpoint after step 5"
    assert diagnoses[0].kind == "step-miscounted"
    assert diagnoses[0].sentence.endswith("from the first again where it chooses its rows.")


def test_an_experiment_without_numbers_shows_nothing(data: Data) -> None:
    init = {"init": "normal", "std": 1e300}
    layers = [{"layer": "flatten"}, {"layer": "dense", "units": 3, "init": init}]
    job = case(data, layers=layers, loss="mean-squared-error")[0]
    ((found, _),) = check_runs(job, [INLINE])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "There are no numbers to compare" in found.note
