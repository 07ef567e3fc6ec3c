"""What a run has left on disk, read without the code that wrote it, against what it should be.

The format of safetensors: 8 bytes that tell, little-endian, how long the header is; the header,
JSON, with dtype, shape and place of every tensor; their bytes.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dptrain.coordinator.progress import Progress
from dptrain.exchange.engine import Score
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.files import parse_toml, plain
from dptrain.experiment.job import SPLITS, Job
from dptrain.gradcheck.comparison import Comparison, compare, compare_numbers
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.runs.course import Course, sha256
from dptrain.gradcheck.runs.states import WEIGHTS, Array, arrays_of, listed

Record = dict[str, Any]
Pairs = dict[str, tuple[Any, Any]]
Explain = Callable[[], list[Diagnosis]]
Told = Iterator[tuple[Comparison, Explain]]

EDGE = "resume"
# Of an experiment begun with saved weights a run records what it has found there.
FOUND = ("init_from", "init_digest")
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_SLOT = "optimizer/"


class Kept(NamedTuple):
    """A checkpoint: tensors as they stand in the file, and what the metadata say about them."""

    tensors: dict[str, Array]
    about: dict[str, Any]

    def arrays(self, job: Job) -> dict[str, Array]:
        """Return the arrays of a state, by name; NaN stands for what is not there."""
        weights = np.full(job.network.size, np.nan)
        for tensor in job.network.all_tensors():
            values = self.tensors.get(tensor.name)
            if values is not None and values.shape == tensor.shape:
                weights[tensor.start : tensor.stop] = values.reshape(-1)
        found = {WEIGHTS: weights}
        for name in job.updater.rule.slots:
            slot = self.tensors.get(_SLOT + name)
            missing = slot is None or slot.shape != weights.shape
            found[name] = np.array(np.full_like(weights, np.nan) if missing else slot, float)
        return found


def read_kept(file: Path) -> Kept:
    """Read a checkpoint."""
    data = file.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    about = json.loads(header.pop("__metadata__")["dptrain"])
    tensors = {}
    for name, each in header.items():
        low, high = each["data_offsets"]
        values = np.frombuffer(data[begin + low : begin + high], _DTYPES[each["dtype"]])
        tensors[name] = values.reshape(each["shape"])
    return Kept(tensors, about)


def read_records(file: Path) -> list[Record]:
    """Read a run's metrics: a line of JSON for each record."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def check_checkpoint(
    course: Course, kept: Kept, step: int, where: str, about_state: Explain
) -> Told:
    """Compare experiment, state, counts and digest of a checkpoint with what they should be.

    Args:
        course: of the run.
        kept: the checkpoint.
        step: the steps after which it was written.
        where: it is, for a reader.
        about_state: tells why weights or optimizer state are wrong.
    """
    job, found, about = course.job, kept.arrays(course.job), kept.about
    begun = plain(job.experiment)
    recorded = parse_toml(about["experiment"], "a checkpoint")["experiment"]
    changed = [
        f"{name}={recorded.get(name)!r} instead of {begun.get(name)!r}"
        for name in sorted({*begun, *recorded} - {*FOUND})
        if begun.get(name) != recorded.get(name)
    ]
    what = f"The experiment has changed, to {', '.join(changed)}: {where}."
    yield _numbers(
        "settings changed in checkpoints = none", where, {"changed": (len(changed), 0)},
        lambda: [Diagnosis("experiment-changed", what, 0.0)],
    )  # fmt: skip
    tensors = job.network.all_tensors()
    for array, wanted in arrays_of(job, course.state(step)).items():
        name = f"{array} in checkpoints = this process's"
        yield compare(name, EDGE, where, tensors, found[array], wanted, 0.0), about_state
    counts = {"step": step, "epoch": step // job.steps_per_epoch}
    name = "counts in checkpoints = the run's"
    yield _counted(name, where, about, counts, "step-miscounted")
    right = course.digests[step][WEIGHTS]
    yield _numbers(
        "digests in checkpoints = those of the weights", where,
        {"digest": (float(about["digest"] == right), 1.0)},
        partial(_about_digest, course, about["digest"], where),
    )  # fmt: skip


def check_progress(course: Course, kept: Kept, step: int, judged: int, where: str) -> Told:
    """Compare what a checkpoint says of the scores so far, and what is read back of that.

    Args:
        course: of the run.
        kept: the checkpoint.
        step: the steps after which it was written.
        judged: those after which the last evaluation was; 0: there was none.
        where: it is, for a reader.
    """
    best_step, best = course.best(judged)
    wanted = {"evaluated": judged, "best_step": best_step, "waited": course.waited(judged)}
    scores = {"best": best, "improved": best} if judged else {}
    told, kind = kept.about["progress"], "progress-wrong"
    yield _counted("progress in checkpoints = the run's", where, told, wanted | scores, kind)
    read = Progress.of(step, told).plain()
    known = {each: told.get(each) for each in wanted | scores}
    name = "progress read back = in the checkpoint"
    yield _counted(name, f"{where}, read back", read, known, kind)


def _counted(
    name: str, where: str, found: Record, wanted: Record, kind: str
) -> tuple[Comparison, Explain]:
    pairs = {each: (_number(found.get(each)), _number(right)) for each, right in wanted.items()}

    def explain() -> list[Diagnosis]:
        each, (value, right) = next((n, p) for n, p in pairs.items() if p[0] != p[1])
        what = f"The checkpoint counts wrongly, {each} is {value:g} instead of {right:g}: {where}."
        return [Diagnosis(kind, what, 0.0)]

    return _numbers(name, where, pairs, explain)


def _numbers(name: str, where: str, pairs: Pairs, explain: Explain) -> tuple[Comparison, Explain]:
    return compare_numbers(name, EDGE, where, pairs), explain


def check_records(course: Course, found: Sequence[Record], where: str, every: int) -> Told:
    """Compare a run's records of steps and evaluations with what they should say.

    Args:
        course: of the run.
        found: in their order.
        where: they were found.
        every: there is a record of the first step, and of one in so many.
    """
    logged = [n for n in range(1, course.end + 1) if n == 1 or n % every == 0]
    expected = [*(("step", n) for n in logged), *(("epoch", n) for n in course.scores)]
    count = Counter((r["kind"], r["step"]) for r in found if r["kind"] in ("step", "epoch"))
    times: Pairs = {f"{kind} {step}": (count[kind, step], 1) for kind, step in expected}
    times["others"] = (len(count.keys() - set(expected)), 0)
    name = "records of steps and evaluations = one of each"
    yield _numbers(name, where, times, partial(_about_times, times, where))
    told = _losses(found)
    losses = {f"step {n}": (told.get(n, np.nan), float(course.losses[n - 1])) for n in logged}
    name = "recorded losses = this process's"
    yield _numbers(name, where, losses, partial(_about_losses, course, losses))
    records = {r["step"]: r for r in found if r["kind"] == "epoch"}
    for step, scores in course.scores.items():
        pairs = {
            name: (_number(records.get(step, {}).get(name)), wanted)
            for name, wanted in _values(scores).items()
        }
        explain = partial(_about_evaluation, course, step, pairs)
        name = "recorded evaluations = this process's"
        yield _numbers(name, f"{where}, after step {step}", pairs, explain)


def _about_times(pairs: Pairs, where: str) -> list[Diagnosis]:
    lost = [name for name, (times, once) in pairs.items() if times < once]
    twice = [name for name, (times, once) in pairs.items() if times > once]
    kind, what = ("records-lost", "no") if lost else ("records-repeated", "more than one")
    sentence = f"There is {what} record of {listed(lost or twice)}: {where}."
    return [Diagnosis(kind, sentence, 0.0)]


def _about_losses(course: Course, pairs: Pairs) -> list[Diagnosis]:
    name, (value, right) = next((n, p) for n, p in pairs.items() if p[0] != p[1])
    others = np.flatnonzero(course.losses == value) + 1
    if len(others):
        what = f"The loss recorded of {name} is that of step {others[0]}."
        return [Diagnosis("loss-of-other-step", what, 0.0)]
    what = f"The loss recorded of {name} is {value / right:.6g} times what it should be."
    return [Diagnosis("loss-recorded", what, 1.0)]


def _about_evaluation(course: Course, step: int, pairs: Pairs) -> list[Diagnosis]:
    found = {name: value for name, (value, _) in pairs.items()}
    for other, state in course.states():
        engine = InlineEngine(course.job, np.array(state.parameters), [])
        if found == _values({split: engine.evaluate(split) for split in SPLITS}):
            what = f"The evaluation after step {step} is of the weights after step {other}."
            return [Diagnosis("evaluated-elsewhere", what, 0.0)]
    wrong = [name for name, (value, wanted) in pairs.items() if value != wanted]
    for name in wrong:
        other_name = next((n for n, (_, wanted) in pairs.items() if wanted == found[name]), None)
        if other_name is not None:
            what = f"What is recorded as {name} after step {step} is the {other_name}."
            return [Diagnosis("scores-exchanged", what, 0.0)]
    what = f"The evaluation after step {step} is wrong: {listed(wrong)}."
    return [Diagnosis("evaluation-recorded", what, 1.0)]


def _values(scores: dict[str, Score]) -> dict[str, float]:
    """Return all numbers of an evaluation, by the names that records have for them."""
    return {
        f"{split}_{what}": value
        for split, score in scores.items()
        for what, value in (("loss", score.loss), ("accuracy", score.accuracy), ("r2", score.r2))
        if value is not None
    }


def check_digests(course: Course, found: Sequence[Record], where: str) -> Told:
    """Compare digests of weights and tensors; those of the end are of the best weights."""
    best, _ = course.best(course.end)
    pairs: Pairs = {}
    wrong: list[tuple[str, str]] = []
    for r in found:
        told = {WEIGHTS: r["digest"]} if "digest" in r else r.get("tensors", {})
        step = min(best if r["kind"] == "end" else r["step"], course.end)
        for name, digest in told.items():
            right = digest == course.digests[step].get(name)
            pairs[f"{r['kind']} {name} {r['step']}"] = (float(right), 1.0)
            if not right:
                wrong.append((digest, f"{where}, {name} of step {r['step']}"))
    pairs["end"] = (sum(r["kind"] == "end" for r in found), 1)
    name = "recorded digests = those of the weights"
    first = wrong[:1]
    yield _numbers(
        name, where, pairs, lambda: [each for w in first for each in _about_digest(course, *w)]
    )


def _about_digest(course: Course, digest: str, where: str) -> list[Diagnosis]:
    """Return of what a digest is that is not what it should be of."""
    for step, state in course.states():
        slots = zip(course.job.updater.rule.slots, state.slots, strict=True)
        views = course.job.network.views(state.parameters)
        for name, array in {WEIGHTS: state.parameters, **dict(slots), **views}.items():
            if sha256(array) == digest:
                what = f"The digest is that of {name} after step {step}: {where}."
                return [Diagnosis("digest-of-other", what, 0.0)]
    what = f"The digest is of no weights that the run has had: {where}."
    return [Diagnosis("digest-wrong", what, 0.5)]


def first_wrong(course: Course, found: Sequence[Record]) -> int | None:
    """Return the first step of which the records have another loss."""
    return next((n for n, each in _losses(found).items() if each != course.losses[n - 1]), None)


def _losses(found: Sequence[Record]) -> dict[int, float]:
    return {r["step"]: _number(r["loss"]) for r in found if r["kind"] == "step"}


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else np.nan
