"""How a state that was kept or read back differs from what it should be, tensor by tensor.

Every lapse predicts what would be found, exactly: all bits of what is wrong must be explained. The
arrays of a state are its weights and the optimizer's, by name, flat and float64, in which float32
is exact; NaN stands for what is missing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.engine import State
from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.reference.bounded import narrowed
from dptrain.nn.network import Tensor

Array = NDArray[Any]
Arrays = Mapping[str, Array]
# Goes through the states of a run: steps done, and what they are then.
Course = Callable[[], Iterable[tuple[int, State]]]

WEIGHTS = "weights"
NARROWER = (np.float32, np.float16)
SHOWN = 4


class Lapse(NamedTuple):
    """What an array could have become.

    Attributes:
        kind: as of `Diagnosis`.
        text: such as ``"zero"``, behind "is" or "are".
        predicted: flat ``(size,)``.
    """

    kind: str
    text: str
    predicted: Array


class Found(NamedTuple):
    """A lapse that explains something.

    Attributes:
        kind: as of `Lapse`.
        text: likewise.
        array: its name.
        place: the part of it, such as ``"dense1.b"``; ``""``: all of it.
    """

    kind: str
    text: str
    array: str
    place: str


def arrays_of(job: Job, state: State) -> dict[str, Array]:
    """Return the arrays of a state, by name."""
    names = (WEIGHTS, *job.updater.rule.slots)
    arrays = (state.parameters, *state.slots)
    return {n: np.asarray(a, float).copy() for n, a in zip(names, arrays, strict=True)}


def same(found: Arrays, wanted: Arrays) -> bool:
    """Return whether two states are equal to the last bit."""
    return all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)


def lapses(job: Job, found: Arrays, wanted: Arrays, course: Course, where: str) -> list[Diagnosis]:
    """Return in what a state differs from what it should be; empty where nothing does.

    Args:
        job: of the run.
        found: what is checked.
        wanted: what it should be.
        course: the states of the run, one of which may have been taken for another.
        where: where it was found, as the beginning of a sentence.
    """
    wrong = {n: _unequal(found[n], wanted[n]) for n in wanted}
    wrong = {name: each for name, each in wrong.items() if each.any()}
    if not wrong:
        return []
    if (step := _whole(job, found, course)) is not None:
        sentence = f"{where} everything is what it was {_after(step)}."
        return [Diagnosis("checkpoint-other-step", sentence, 0.0)]
    named: list[Found] = []
    left = 0
    for name, which in wrong.items():
        explained, unexplained = _explained(job, name, found[name], wanted, which, course)
        named += explained
        left += unexplained
    total = sum(int(np.count_nonzero(each)) for each in wrong.values())
    if not named:
        names = _called([Found("", "", name, "") for name in wrong])
        what = f"{where} {total:,} elements of {names} are wrong, and nothing known explains them."
        return [Diagnosis("checkpoint-wrong", what, 1.0)]
    return [Diagnosis(named[0].kind, f"{where} {_sentence(named)}.", left / total)]


def _whole(job: Job, found: Arrays, course: Course) -> int | None:
    """Return the step after which everything was as it is."""
    return next((n for n, each in course() if same(found, arrays_of(job, each))), None)


def _explained(
    job: Job, name: str, found: Array, wanted: Arrays, wrong: Array, course: Course
) -> tuple[list[Found], int]:
    """Return what explains the wrong elements of an array, and how many nothing explains."""
    tensors = job.network.all_tensors()
    possible = list(_lapses(job, name, wanted, found, course))
    for each in possible:
        if _fits(found, each.predicted, wrong):
            place = _place(tensors, wrong, _unequal(each.predicted, wanted[name]))
            return [Found(each.kind, each.text, name, place)], 0
    explained, left = [], 0
    for tensor in tensors:
        own = np.zeros(wrong.shape, bool)
        own[tensor.start : tensor.stop] = wrong[tensor.start : tensor.stop]
        if not own.any():
            continue
        fit = next((e for e in possible if _fits(found, e.predicted, own)), None)
        fit = fit or _another(tensor, tensors, found, wanted[name])
        if fit is None:
            left += int(np.count_nonzero(own))
        else:
            explained.append(Found(fit.kind, fit.text, name, tensor.name))
    return explained, left


def _lapses(job: Job, name: str, wanted: Arrays, found: Array, course: Course) -> Iterator[Lapse]:
    """Yield what an array could have become, the simplest first."""
    right = wanted[name]
    lost = "tensor-lost" if name == WEIGHTS else "state-lost"
    yield Lapse(lost, "missing", np.full(right.shape, np.nan))
    yield Lapse(lost, "zero", np.zeros(right.shape))
    for dtype in NARROWER:
        if np.dtype(dtype).itemsize < job.dtype.itemsize:
            text = f"rounded to {np.dtype(dtype).name}"
            yield Lapse("checkpoint-rounded", text, narrowed(right, dtype))
    for step, state in course():
        before = arrays_of(job, state)[name]
        yield Lapse("checkpoint-other-step", f"what it was {_after(step)}", before)
    for other in wanted:
        if other != name:
            yield Lapse("state-exchanged", f"the run's {other}", wanted[other])
    yield Lapse("sign", "of the wrong sign", -right)
    swapped = right.astype(job.dtype).byteswap().astype(float)
    yield Lapse("byte-order", "read with its bytes in the wrong order", swapped)
    yield from _rearranged(job, right)
    nonzero = np.flatnonzero(right)
    if len(nonzero):
        with np.errstate(all="ignore"):
            factor = float(found[nonzero[-1]] / right[nonzero[-1]])
        yield Lapse("checkpoint-scaled", f"multiplied by {factor:.6g}", factor * right)


def _rearranged(job: Job, right: Array) -> Iterator[Lapse]:
    tensors = job.network.all_tensors()
    parts = {t.name: right[t.start : t.stop] for t in tensors}
    for order, what in ((sorted(parts), "by name"), ([*reversed(parts)], "the other way round")):
        text = f"in another order of tensors, {what}"
        yield Lapse("tensor-order", text, np.concatenate([parts[n] for n in order]))
    for by in (1, -1):
        moved = np.concatenate([np.roll(each, by) for each in parts.values()])
        yield Lapse("tensor-shifted", "shifted by one element", moved)
        yield Lapse("tensor-shifted", "shifted by one element", np.roll(right, by))
    turned = [parts[t.name].reshape(t.shape).T.reshape(-1) for t in tensors]
    yield Lapse("transposed", "transposed", np.concatenate(turned))


def _another(tensor: Tensor, tensors: Sequence[Tensor], found: Array, right: Array) -> Lapse | None:
    """Return which other tensor of the same size stands in a tensor's place, if one does."""
    own = found[tensor.start : tensor.stop]
    for other in tensors:
        values = right[other.start : other.stop]
        if other != tensor and own.tobytes() == values.tobytes():
            return Lapse("tensor-exchanged", f"the run's {other.name}", right)
    return None


def _unequal(found: Array, wanted: Array) -> Array:
    unequal: Array = found.view(np.uint64) != wanted.view(np.uint64)
    return unequal


def _fits(found: Array, predicted: Array, which: Array) -> bool:
    with np.errstate(invalid="ignore"):
        equal = (found[which] == predicted[which]) | (
            np.isnan(found[which]) & np.isnan(predicted[which])
        )
    return bool(equal.all())


def _place(tensors: Sequence[Tensor], wrong: Array, could: Array) -> str:
    """Return which part is wrong, of what could be."""
    if (wrong == could).all():
        return ""
    hit = [t for t in tensors if wrong[t.start : t.stop].any()]
    if all((wrong[t.start : t.stop] == could[t.start : t.stop]).all() for t in hit):
        return listed([t.name for t in hit])
    places = np.flatnonzero(wrong)
    return f"elements {places[0]} to {places[-1]} of {len(wrong):,}"


def _sentence(found: Sequence[Found]) -> str:
    """Return what is wrong, as a sentence that lacks its full stop."""
    groups: dict[str, list[Found]] = {}
    for each in found:
        groups.setdefault(each.text, []).append(each)
    if _changed_places(found):
        return f"{_called(found)} have changed places"
    parts = []
    for text, own in groups.items():
        names = _called(own)
        many = len(own) > 1 or names == "the weights" or " and " in names or "elements" in names
        what = text.replace("what it was", "what they were") if many else text
        parts.append(f"{names} {'are' if many else 'is'} {what}")
    return "; ".join(parts)


def _changed_places(found: Sequence[Found]) -> bool:
    if len(found) != 2 or any(each.kind != "state-exchanged" or each.place for each in found):
        return False
    one, other = found
    return one.text.endswith(f" {other.array}") and other.text.endswith(f" {one.array}")


def _called(found: Sequence[Found]) -> str:
    """Return what arrays and tensors are called."""
    names = [each.place or "the weights" for each in found if each.array == WEIGHTS]
    places: dict[str, list[str]] = {}
    for each in found:
        if each.array != WEIGHTS:
            places.setdefault(each.place, []).append(each.array)
    for place, arrays in places.items():
        names.append(f"the optimizer's {listed(arrays)}" + (f" of {place}" if place else ""))
    return listed(names)


def _after(step: int) -> str:
    return f"after step {step}" if step else "before the first step"


def listed(names: Sequence[str]) -> str:
    """Return names as one would say them, those beyond the first few left out."""
    shown = [*names[:SHOWN], "…"] if len(names) > SHOWN else [*names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
