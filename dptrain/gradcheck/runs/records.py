"""What a run records of itself: losses, evaluations and digests."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from dptrain.exchange.engine import Score
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import SPLITS
from dptrain.gradcheck.comparison import Comparison, compare_numbers
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.runs.course import Course, sha256
from dptrain.gradcheck.runs.lapses import listed
from dptrain.gradcheck.verdict import Verdict

Record = dict[str, Any]
Pairs = dict[str, tuple[Any, Any]]
Explain = Callable[[], list[Diagnosis]]
Told = Iterator[tuple[Comparison, Explain]]

EDGE = "resume"


def check_records(course: Course, found: Sequence[Record], where: str, every: int) -> Told:
    """Compare a run's records with what they should say.

    Args:
        course: of the run.
        found: in their order.
        where: they were found.
        every: there is a record of the first step, and of one in so many.
    """
    logged = [n for n in range(1, course.end + 1) if n == 1 or n % every == 0]
    yield _repeats(course, logged, found, where)
    yield _losses(course, logged, found, where)
    yield from _evaluations(course, found, where)
    yield _digests(course, found, where)


def _repeats(
    course: Course, logged: Sequence[int], found: Sequence[Record], where: str
) -> tuple[Comparison, Explain]:
    """Compare how often there is a record of each step and evaluation, which is once."""
    wanted = [*(("step", n) for n in logged), *(("epoch", n) for n in course.scores)]
    count = Counter((r["kind"], r["step"]) for r in found if r["kind"] in ("step", "epoch"))
    pairs = {f"{kind} {step}": (count[kind, step], 1) for kind, step in wanted}
    pairs["others"] = (len(count.keys() - set(wanted)), 0)
    name = "records of steps and evaluations = one of each"

    def explain() -> list[Diagnosis]:
        lost = [n for n, (times, once) in pairs.items() if times < once]
        twice = [n for n, (times, once) in pairs.items() if times > once]
        kind, what = ("records-lost", "no") if lost else ("records-repeated", "more than one")
        sentence = f"There is {what} record of {listed(lost or twice)}: {where}."
        return [Diagnosis(kind, sentence, 0.0)]

    return compare_numbers(name, EDGE, where, pairs), explain


def _losses(
    course: Course, logged: Sequence[int], found: Sequence[Record], where: str
) -> tuple[Comparison, Explain]:
    told = _told(found)
    pairs = {f"step {n}": (told.get(n, np.nan), float(course.losses[n - 1])) for n in logged}

    def explain() -> list[Diagnosis]:
        step = next(n for n in logged if told.get(n) != course.losses[n - 1])
        value = told.get(step, np.nan)
        others = [i + 1 for i, each in enumerate(course.losses) if each == value]
        if others:
            what = f"The loss recorded of step {step} is that of step {others[0]}."
            return [Diagnosis("loss-of-other-step", what, 0.0)]
        ratio = value / course.losses[step - 1]
        what = f"The loss recorded of step {step} is {ratio:.6g} times what it should be."
        return [Diagnosis("loss-recorded", what, 1.0)]

    name = "recorded losses = this process's"
    return compare_numbers(name, EDGE, where, pairs), explain


def first_wrong(course: Course, found: Sequence[Record]) -> int | None:
    """Return the first step of which the records have another loss."""
    return next((n for n, each in _told(found).items() if each != course.losses[n - 1]), None)


def _told(found: Sequence[Record]) -> dict[int, float]:
    return {r["step"]: _number(r["loss"]) for r in found if r["kind"] == "step"}


def _evaluations(course: Course, found: Sequence[Record], where: str) -> Told:
    told = {r["step"]: r for r in found if r["kind"] == "epoch"}
    for step, scores in course.scores.items():
        record = told.get(step, {})
        pairs = {
            f"{split} {what}": (_number(record.get(f"{split}_{what}")), wanted)
            for split, score in scores.items()
            for what, wanted in _values(score)
        }
        at = f"{where}, after step {step}"
        name = "recorded evaluations = this process's"
        yield (
            compare_numbers(name, EDGE, at, pairs),
            partial(_about_evaluation, course, step, pairs),
        )


def about_evaluations(course: Course, found: Sequence[Record]) -> list[Diagnosis]:
    """Return what is wrong with the first evaluation that is; empty where none is."""
    for comparison, explain in _evaluations(course, found, ""):
        if comparison.verdict is Verdict.FAIL:
            return explain()
    return []


def _values(score: Score) -> list[tuple[str, float]]:
    told = [("loss", score.loss), ("accuracy", score.accuracy), ("r2", score.r2)]
    return [(what, value) for what, value in told if value is not None]


def _about_evaluation(course: Course, step: int, pairs: Pairs) -> list[Diagnosis]:
    found = {name: value for name, (value, _) in pairs.items()}
    for other, state in course.states():
        engine = InlineEngine(course.job, np.array(state.parameters), [])
        scores = {split: dict(_values(engine.evaluate(split))) for split in SPLITS}
        if found == {f"{s} {what}": value for s in SPLITS for what, value in scores[s].items()}:
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


def _digests(course: Course, found: Sequence[Record], where: str) -> tuple[Comparison, Explain]:
    """Compare digests of weights and tensors; those of the end are of the best weights."""
    best, _ = course.best(course.end)
    pairs: Pairs = {}
    wrong: list[tuple[str, str]] = []
    tensors = _tensor_digests(course) if any(r["kind"] == "digests" for r in found) else {}
    for r in found:
        told = {r["kind"]: r["digest"]} if "digest" in r else r.get("tensors", {})
        step = best if r["kind"] == "end" else r["step"]
        for name, digest in told.items():
            right = tensors.get(step, {}).get(name) or course.digests[min(step, course.end)]
            pairs[f"{name} {r['step']}"] = (float(digest == right), 1.0)
            if digest != right:
                wrong.append((f"{where}, {name} of step {r['step']}", digest))
    pairs["end"] = (sum(r["kind"] == "end" for r in found), 1)

    def explain() -> list[Diagnosis]:
        return about_digest(course, wrong[0][1], wrong[0][0]) if wrong else []

    name = "recorded digests = those of the weights"
    return compare_numbers(name, EDGE, where, pairs), explain


def _tensor_digests(course: Course) -> dict[int, dict[str, str]]:
    return {
        step: {n: sha256(v) for n, v in course.job.network.views(state.parameters).items()}
        for step, state in course.states()
    }


def about_digest(course: Course, digest: str, where: str) -> list[Diagnosis]:
    """Return of what a digest is that is not what it should be of."""
    names = course.job.updater.rule.slots
    for step, state in course.states():
        arrays = {"weights": state.parameters, **dict(zip(names, state.slots, strict=True))}
        arrays |= course.job.network.views(state.parameters)
        for name, array in arrays.items():
            if sha256(array) == digest:
                what = f"The digest is that of {name} after step {step}: {where}."
                return [Diagnosis("digest-of-other", what, 0.0)]
    what = f"The digest is of no weights that the run has had: {where}."
    return [Diagnosis("digest-wrong", what, 0.5)]


def _number(value: float | None) -> float:
    return np.nan if value is None else value
