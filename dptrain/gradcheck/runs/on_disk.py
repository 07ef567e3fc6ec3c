"""What a run has left on disk, read without the code that wrote it, against what it should be.

The format of safetensors: 8 bytes that tell, little-endian, how long the header is; the header,
JSON, with dtype, shape and place of every tensor; their bytes.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from dptrain.coordinator.progress import RunProgress
from dptrain.exchange.engine import SplitScore
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.files import parse_toml, plain
from dptrain.experiment.job import SPLITS, Job
from dptrain.gradcheck.comparison import Comparison, compare, compare_numbers
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.runs.course import Course, sha256
from dptrain.gradcheck.runs.states import WEIGHTS, Array, arrays_of, listed
from dptrain.gradcheck.updates.rates import learning_rate

Record = dict[str, Any]
# What is kept of which step, such as ``"loss"`` and 3, and its value.
Page = tuple[str, int]
Pages = Mapping[Page, Any]
# Of a page that is wrong, all that might have been taken for it.
Known = Callable[[Page], Iterable[tuple[Page, Any]]]
Explain = Callable[[], list[Diagnosis]]
Told = Iterator[tuple[Comparison, Explain]]

EDGE = "resume"
# Of an experiment begun with saved weights a run records what it has found there.
FOUND = ("init_from", "init_digest")
# Kinds of what is kept in place of something else: the same of another step; something else; and
# nothing that is known.
LOSS = ("loss-of-other-step", "loss-recorded", "loss-recorded")
SCORE = ("evaluated-elsewhere", "scores-exchanged", "evaluation-recorded")
DIGEST = ("digest-of-other", "digest-of-other", "digest-wrong")
COUNT, PROGRESS = ("step-miscounted",) * 3, ("progress-wrong",) * 3
RATE, ARITHMETIC = ("rate-recorded",) * 3, ("arithmetic-recorded",) * 3
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_SLOT = "optimizer/"


class Saved(NamedTuple):
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


def read_checkpoint(file: Path) -> Saved:
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
    return Saved(tensors, about)


def read_records(file: Path) -> list[Record]:
    """Read a run's metrics: a line of JSON for each record."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def check_checkpoint(
    course: Course, saved: Saved, step: int, where: str, about_state: Explain
) -> Told:
    """Compare experiment, state, counts and digest of a checkpoint with those after some steps.

    ``about_state`` tells why weights or optimizer state are wrong.
    """
    job, found, about = course.job, saved.arrays(course.job), saved.about
    begun = plain(job.experiment)
    recorded = parse_toml(about["experiment"], "a checkpoint")["experiment"]
    changed = [
        f"{name}={recorded.get(name)!r} instead of {begun.get(name)!r}"
        for name in sorted({*begun, *recorded} - {*FOUND})
        if begun.get(name) != recorded.get(name)
    ]
    name, counted = "settings changed in checkpoints = none", {"changed": (len(changed), 0)}
    what = f"The experiment has changed, to {', '.join(changed)}: {where}."
    compared = compare_numbers(name, EDGE, where, counted)
    yield compared, lambda: [Diagnosis("experiment-changed", what, 0.0)]
    tensors = job.network.all_tensors()
    for array, wanted in arrays_of(job, course.state(step)).items():
        name = f"{array} in checkpoints = this process's"
        yield compare(name, EDGE, where, tensors, found[array], wanted, 0.0), about_state
    counts = {"step": step, "epoch": step // job.steps_per_epoch}
    name = "counts in checkpoints = the run's"
    yield _pages(name, where, _of(step, about), _of(step, counts), COUNT)
    name, page = "digests in checkpoints = those of the weights", ("the digest", step)
    right, known = {page: course.digests[step][WEIGHTS]}, partial(_digests, course)
    yield _pages(name, where, {page: about["digest"]}, right, DIGEST, known)


def check_progress(course: Course, saved: Saved, step: int, judged: int, where: str) -> Told:
    """Compare what a checkpoint says of the scores so far, and what is read back of that.

    It was written after ``step`` steps, the last evaluation was after ``judged``, or 0 for none.
    """
    best_step, best = course.best(judged)
    wanted = {"evaluated": judged, "best_step": best_step, "waited": course.waited(judged)}
    right = _of(step, {**wanted, **({"best": best, "improved": best} if judged else {})})
    told = saved.about["progress"]
    name = "progress in checkpoints = the run's"
    yield _pages(name, where, _of(step, told), right, PROGRESS)
    name, read = "progress read back = the run's", _of(step, RunProgress.of(step, told).plain())
    yield _pages(name, f"{where}, read back", read, right, PROGRESS)


def check_records(
    course: Course, found: Sequence[Record], where: str, every: int, digested: int
) -> Told:
    """Compare a run's records of steps and evaluations with what they should say.

    There is a record of the first step, and of one in ``every``; of digests up to some step.
    """
    logged = [n for n in range(1, course.end + 1) if n == 1 or n % every == 0]
    kinds = {"step": logged, "epoch": [*course.scores], "end": [course.end]}
    kinds |= {"digests": [*range(1, digested + 1)], "arithmetic": [0]}  # all of it on one machine
    once = [f"{kind} {step}" for kind, steps in kinds.items() for step in steps]
    times = Counter(f"{r['kind']} {r['step']}" for r in found if r["kind"] in kinds)
    pairs = {each: (times[each], 1) for each in once}
    pairs |= {each: (number, 0) for each, number in times.items() if each not in pairs}
    compared = compare_numbers("records of steps and evaluations = one", EDGE, where, pairs)
    yield compared, partial(_about_times, pairs, where)
    per = course.job.steps_per_epoch
    counted = {(f"{r['kind']}'s epoch", r["step"]): r["epoch"] for r in found if r["kind"] in kinds}
    epochs = {page: page[1] / per for page in counted}
    if counted:
        yield _pages("epochs in records = steps / those of one", where, counted, epochs, COUNT)
    told: Pages = {("the loss", r["step"]): r["loss"] for r in found if r["kind"] == "step"}
    known = {("the loss", n): float(each) for n, each in enumerate(course.losses, 1)}
    right: Pages = {page: value for page, value in known.items() if page[1] in logged}
    name = "recorded losses = this process's"
    yield _pages(name, where, told, right, LOSS, lambda _: known.items())
    yield from _rates_of(course, found, where)
    yield from _arithmetic_of(found, where)
    records = {r["step"]: r for r in found if r["kind"] == "epoch"}
    name = "recorded evaluations = this process's"
    for step, scores in course.scores.items():
        told, right = _of(step, records.get(step, {})), _of(step, _values(scores))
        yield _pages(name, where, told, right, SCORE, partial(_scores, course))


def _rates_of(course: Course, found: Sequence[Record], where: str) -> Told:
    """Compare the learning rates that records of steps and evaluations tell."""
    told, right = {}, {}
    for r in (each for each in found if each["kind"] in ("step", "epoch")):
        page = f"the learning rate in the record of {r['kind']}", r["step"]
        rate = learning_rate(course.job, r["step"] - 1)
        # powers and cosines are rounded here and there
        near = abs(r["lr"] - rate.value) <= np.asarray(rate.error)
        told[page], right[page] = r["lr"], r["lr"] if near else float(rate.value)
    name = "recorded learning rates = the book's"
    yield _pages(name, where, told, right, RATE)


def _arithmetic_of(found: Sequence[Record], where: str) -> Told:
    """Compare what records tell of NumPy and BLAS with what this process has."""
    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    versions = [f"{each.internal_api} {each.version}" for each in loaded]
    records = [each for each in found if each["kind"] == "arithmetic"]
    told = {("NumPy", r["step"]): r["numpy"] for r in records}
    right: dict[Page, Any] = dict.fromkeys(told, np.__version__)
    for r in records:
        blas = [each for each in versions if each in r["blas"]]
        told["BLAS", r["step"]], right["BLAS", r["step"]] = blas, versions
    name = "recorded arithmetic = this machine's"
    yield _pages(name, where, told, right, ARITHMETIC)


def check_digests(course: Course, found: Sequence[Record], where: str) -> Told:
    """Compare digests of weights and tensors; those of the end are of the best weights."""
    best, _ = course.best(course.end)
    told, right = {}, {}
    for r in found:
        step, which = (best, " at the end") if r["kind"] == "end" else (r["step"], "")
        digests = {WEIGHTS: r["digest"]} if "digest" in r else r.get("tensors", {})
        for name, digest in digests.items():
            page = f"the digest of {name}{which}", step
            told[page], right[page] = digest, course.digests[min(step, course.end)].get(name)
    name = "recorded digests = those of the weights"
    if right:
        yield _pages(name, where, told, right, DIGEST, partial(_digests, course))


def _of(step: int, values: Mapping[str, Any]) -> Pages:
    return {(name, step): value for name, value in values.items()}


def _pages(
    name: str,
    where: str,
    found: Pages,
    wanted: Pages,
    kinds: tuple[str, str, str],
    known: Known = lambda _: (),
) -> tuple[Comparison, Explain]:
    """Compare what is kept of steps with what should be; all that should be must be there."""
    wrong = [page for page, value in wanted.items() if found.get(page) != value]
    pairs: dict[str, tuple[float, float]] = {}
    for (what, step), value in wanted.items():
        own = found.get((what, step))
        pairs[f"{what} {step}"] = float(own == value), 1.0
        if isinstance(own, int | float) and isinstance(value, int | float):
            pairs[f"{what} {step}"] = own, value

    def explain() -> list[Diagnosis]:
        page = wrong[0]
        value = found.get(page)
        for other, its in known(page):
            if its == value:
                kind = kinds[0 if other[0] == page[0] else 1]
                what = f"What is kept as {_said(page)} is {_said(other)}: {where}."
                return [Diagnosis(kind, what, 0.0)]
        what = f"{_said(page)} is {value} instead of {wanted[page]}: {where}."
        return [Diagnosis(kinds[2], what, 1.0)]

    return compare_numbers(name, EDGE, where, pairs), explain


def _said(page: Page) -> str:
    return f"{page[0]} after step {page[1]}"


def _about_times(pairs: Mapping[str, tuple[int, int]], where: str) -> list[Diagnosis]:
    lost = [name for name, (times, once) in pairs.items() if times < once]
    twice = [name for name, (times, once) in pairs.items() if times > once]
    kind, what = (
        ("records-lost", "no record") if lost else ("records-repeated", "a record too many")
    )
    sentence = f"There is {what} of {listed(lost or twice)}: {where}."
    return [Diagnosis(kind, sentence, 0.0)]


def _values(scores: Mapping[str, SplitScore]) -> dict[str, float]:
    """Return the numbers of an evaluation, by the names that records have, losses first."""
    return {
        f"{split}_{what}": value
        for what in ("loss", "accuracy", "r2")
        for split, score in scores.items()
        if (value := getattr(score, what)) is not None
    }


def _scores(course: Course, page: Page) -> Iterator[tuple[Page, float]]:
    """Yield what evaluations give: of the same step, and losses also after all other steps."""
    yield from _of(page[1], _values(course.scores[page[1]])).items()
    for step, state in course.states() if page[0].endswith("loss") else ():
        engine = InlineEngine(course.job, np.array(state.parameters), [])
        yield from _of(step, _values({split: engine.evaluate(split) for split in SPLITS})).items()


def _digests(course: Course, _: Page) -> Iterator[tuple[Page, str]]:
    """Yield the digests of all arrays and tensors that the run has."""
    for step, state in course.states():
        slots = zip(course.job.updater.rule.slots, state.slots, strict=True)
        views = course.job.network.views(state.parameters)
        for name, array in {WEIGHTS: state.parameters, **dict(slots), **views}.items():
            yield (f"the digest of {name}", step), sha256(array)


def first_wrong(course: Course, found: Sequence[Record]) -> int | None:
    """Return the first step of which the records have another loss."""
    steps = ((r["step"], r["loss"]) for r in found if r["kind"] == "step")
    return next((step for step, loss in steps if loss != course.losses[step - 1]), None)
