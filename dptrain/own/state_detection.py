"""Which values inside a network of the user's own are state: found by watching copies of it.

Layers leave much behind in a call, such as their inputs, that the next call overwrites unread.
State is what a later call depends on: put back to what it was, it changes losses, predictions or
gradients of other rows. Numbers and arrays that change again in the same call with the same rows,
such as counters and averages, are state as well: what depends on them may come later.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DptrainError, OwnCodeError
from dptrain.own.model import OwnModel
from dptrain.own.places import GENERATORS, MISSING, place_of, walk
from dptrain.own.state import ValueForm

Array = NDArray[Any]
# How near, relatively, the state of a whole minibatch and that of its parts must be.
NEAR = 1e-5
# What is handed on from call to call, such as the last but one, has changed after so many.
CALLS = 3
# How far counters are set, to see what begins later.
LATER = (1_000, 1_000_000)


class DetectedState(NamedTuple):
    """What was found.

    Attributes:
        forms: of each value of the state, by its path.
        lost: paths of what matters as well, but cannot be kept with the weights.
    """

    forms: dict[str, str]
    lost: list[str]


def watched(model: OwnModel, x: Array, t: Array, seed: int) -> DetectedState:
    """Watch copies of a network in a few calls, and in a few that come much later.

    Whole numbers that are counted up are set to a large one for that: what begins after a number
    of steps is seen then.

    Args:
        model: the network, without known state; it is left as it is.
        x: rows ``(n, *input_shape)``.
        t: their targets.
        seed: of what it draws.

    Raises:
        OwnCodeError: the network raised.
    """
    found = _watched(model, x, t, seed)
    counters = [path for path, form in found.forms.items() if form.startswith(("int", "uint"))]
    counters = [path for path in counters if "[" not in found.forms[path].removesuffix("[]")]
    for count in LATER if counters else ():
        later = model.copied()
        if later is None:
            break
        for path in counters:
            place_of(later.subject, path).put(
                ValueForm.parse(found.forms[path]).made(np.array(count))
            )
        try:
            with np.errstate(all="ignore"):
                more = _watched(later, x, t, seed)
        except DptrainError:  # it never comes so far
            continue
        there = {p: f for p, f in more.forms.items() if str(ValueForm.of(_at(model, p))) == f}
        lost = {*found.lost, *more.lost, *more.forms} - {*there, *found.forms}
        found = DetectedState(found.forms | there, sorted(lost))
    return found


def _at(model: OwnModel, path: str) -> Any:
    return place_of(model.subject, path).get()


def _watched(model: OwnModel, x: Array, t: Array, seed: int) -> DetectedState:
    fresh, late = model.copied(), model.copied()
    if fresh is None or late is None:
        return DetectedState({}, [])
    for each in (fresh, late):
        _moved(each)
    late.loss_and_gradient(x, t, seed)
    early = late.copied() or late
    for _ in range(1, CALLS):
        late.loss_and_gradient(x, t, seed)
    for array, value in zip(late.params.values(), fresh.params.values(), strict=True):
        np.copyto(array, value)  # the calls may have changed it
    changed = _changed(fresh, late)
    moving = _moving(late, changed, x, t, seed)
    # as many rows, for the code may take no other number; and other random numbers
    others = x[::-1] * 0.5, t, seed + 1
    usual = answers(late, *others)
    if answers(late, *others) != usual:  # it draws what nobody can seed
        return DetectedState({}, [])

    def matter(paths: Sequence[str]) -> bool:
        return answers(_reverted(late, [changed[path] for path in paths]), *others) != usual

    relevant = set(_relevant(sorted(changed.keys() - moving), matter)) | moving
    weights = {id(each) for each in late.params.values()}
    beside = {q for p in relevant for q in place_of(late.subject, p).beside()}
    relevant |= {p for p in beside if id(_at(late, p)) not in weights}
    values = {p: _at(late, p) for p in sorted(relevant)}
    forms = {p: ValueForm.of(v) for p, v in values.items()}
    kept = {
        p: str(f) for p, f in forms.items() if f is not None and f == ValueForm.of(_at(early, p))
    }
    kept = {p: f for p, f in kept.items() if place_of(fresh.subject, p).can_be_made}
    lost = sorted(values.keys() - kept.keys())
    if not relevant and answers(fresh, *others) != usual:
        lost = ["something that is not an attribute"]
    return DetectedState(kept, lost)


def merges(model: OwnModel, x: Array, t: Array, seed: int) -> bool:
    """Return whether the mean of what parts of a minibatch leave is what the whole one leaves.

    Args:
        model: with its state known and held; as `watched`, as are the rest.
        x: see there.
        t: see there.
        seed: see there.
    """
    half = len(x) // 2
    if not half:
        return True
    try:
        whole = _left(model, x, t, seed)
        parts = [_left(model, x[rows], t[rows], seed) for rows in (slice(half), slice(half, None))]
    except OwnCodeError:  # it takes no other number of rows
        return False
    shares = (half / len(x), 1 - half / len(x))
    return all(
        np.allclose(
            shares[0] * a + shares[1] * b, w, rtol=NEAR, atol=NEAR * _largest(w), equal_nan=True
        )
        for w, a, b in zip(whole, *parts, strict=True)
    )


def _largest(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def drawn_once(model: OwnModel, x: Array, t: Array, seed: int) -> bool:
    """Return whether something is drawn in the first call and then kept; as `merges`."""
    begin = model.tensors()
    weights = begin[: len(model.params)]
    first, other = (_left(model, x, t, each) for each in (seed, seed + 1))
    model.load([*weights, *first])
    after = _left(model, x, t, seed + 1)
    model.load(begin)
    return any(_same(a, c) and not _same(a, b) for a, b, c in zip(first, other, after, strict=True))


def _left(model: OwnModel, x: Array, t: Array, seed: int) -> list[Array]:
    model.loss_and_gradient(x, t, seed)
    return model.state()


def answers(model: OwnModel, x: Array, t: Array, seed: int) -> list[bytes]:
    """Return what a copy answers to some rows, as bytes."""
    model = model.copied() or model
    found = []
    for _ in range(2):
        try:
            found.append(np.float64(model.loss(x, t, seed)).tobytes())
            if model.predicts:
                found.append(model.outputs(x, seed).tobytes())
            loss, gradients = model.loss_and_gradient(x, t, seed)
            found += [np.float64(loss).tobytes(), *(g.tobytes() for g in gradients.values())]
        except DptrainError:  # of a state that cannot be
            found.append(b"raised")
    return found


def _moved(model: OwnModel) -> None:
    """Move a copy's weights a little: averages of biases that are all 0 would stay 0."""
    random = np.random.default_rng(0)
    for array in model.params.values():
        array += 0.1 * (float(np.abs(array).mean()) or 1.0) * random.standard_normal(array.shape)


def _changed(fresh: OwnModel, late: OwnModel) -> dict[str, tuple[str, Any]]:
    """Return the paths of what a call has changed, and where what stood before.

    That is at the same path; for what stands in a list that the call has made, the list's.
    """
    before = {each.path: value for each, value in walk(fresh.subject)}
    weights = list(late.params.values())
    found = {}
    for each, value in walk(late.subject):
        was = before.get(each.path, MISSING)
        if isinstance(value, GENERATORS) or _same(was, value):
            continue
        if isinstance(value, np.ndarray) and any(np.may_share_memory(value, w) for w in weights):
            continue
        begun = place_of(fresh.subject, each.path).begun()
        made = (
            was is MISSING and not each.keys[-1].attribute and isinstance(each.keys[-1].name, int)
        )
        found[each.path] = (begun.path, begun.get()) if made else (each.path, was)
    return found


def _moving(
    late: OwnModel, changed: Mapping[str, tuple[str, Any]], x: Array, t: Array, seed: int
) -> set[str]:
    """Return what the same call changes again, in the same way whenever it is made.

    Those are numbers, and arrays of which it matters what they were before: layers' inputs change
    as well, once something does that they depend on.
    """
    first, second = late.copied(), late.copied()
    if first is None or second is None:
        return set()
    for each in (first, second):
        each.loss_and_gradient(x, t, seed)
    after = {}
    for path in changed:
        was, now, again = (place_of(m.subject, path).get() for m in (late, first, second))
        steady = ValueForm.of(was) is not None and ValueForm.of(was) == ValueForm.of(now)
        if steady and not _same(was, now) and _same(now, again):
            after[path] = now

    def matter(paths: Sequence[str]) -> bool:
        other = _reverted(late, [changed[path] for path in paths])
        try:
            other.loss_and_gradient(x, t, seed)
        except DptrainError:  # of a state that cannot be
            return True
        return not all(_same(place_of(other.subject, p).get(), now) for p, now in after.items())

    arrays = sorted(path for path, now in after.items() if isinstance(now, np.ndarray))
    return (after.keys() - arrays) | set(_relevant(arrays, matter))


def _relevant(paths: Sequence[str], matter: Callable[[Sequence[str]], bool]) -> list[str]:
    """Return those that matter, found by halving."""
    if not paths or not matter(paths):
        return []
    if len(paths) == 1:
        return list(paths)
    half = len(paths) // 2
    found = [*_relevant(paths[:half], matter), *_relevant(paths[half:], matter)]
    return found or list(paths)  # each stands in for the other


def _reverted(late: OwnModel, values: Sequence[tuple[str, Any]]) -> OwnModel:
    found = late.copied()
    assert found is not None
    for path, value in values:
        place_of(found.subject, path).put(copy.deepcopy(value) if value is not MISSING else MISSING)
    return found


def _same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray | np.generic) and isinstance(other, np.ndarray | np.generic):
        return one.dtype == other.dtype and np.array_equal(
            one, other, equal_nan=one.dtype.kind == "f"
        )
    if type(one) is not type(other) or isinstance(one, np.ndarray | np.generic):
        return False
    return one is other or one == other or (one != one and other != other)
