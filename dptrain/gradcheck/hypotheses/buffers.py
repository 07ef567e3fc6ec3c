"""Steps after which a buffer of the run holds what another should: the state of earlier steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.engine import State
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Step

Array = NDArray[Any]

KIND = "stale-buffer"
FAR = 8  # steps back that are looked at


def stale_buffers(steps: Sequence[Step], wrong: Array, *, moved_rightly: bool) -> list[Diagnosis]:
    """Return what the last of some steps says of buffers that were taken for each other.

    Args:
        steps: of a run, one behind the other, the last being the one that is wrong.
        wrong: which elements are wrong after it, bool ``(size,)``.
        moved_rightly: whether the weights are right, and only the optimizer's state is wrong.
    """
    if not wrong.any():
        return []
    after, number = steps[-1].after, steps[-1].number
    weights, state = _ages(after, steps, wrong)
    has_state = bool(after.slots)
    older = min((age for age in weights if age > 1 and age in state), default=None)
    if older is not None and 1 not in weights:
        what = "The weights and the optimizer's state" if has_state else "The weights"
        said = f"{what} after step {number + 1} are those of {older} steps before: the step was "
        said += "written to another buffer than the one that is read"
        return [Diagnosis(KIND, said, 0.0)]
    if has_state and 1 in state and 1 in weights and _anything(steps[-1].before, wrong):
        return unwritten(steps[-1], wrong)
    if has_state and state and moved_rightly:
        age = min(state)
        said = "did not move" if age == 1 else f"is that of {age} steps before"
        said = f"The weights moved rightly in step {number + 1}, but the optimizer's state {said}: "
        said += "it is written to another buffer than the one that is read"
        return [Diagnosis(KIND, said, 0.0)]
    back = min((age for age in weights if age > 1), default=None)
    if back is not None and 1 not in weights:
        said = f"The weights after step {number + 1} are those of {back} steps before"
        return [Diagnosis(KIND, said, 0.0)]
    return []


def unwritten(step: Step, wrong: Array) -> list[Diagnosis]:
    """Return whether a step was not written at all, where it is wrong: 0, or all as it was."""
    before, after = (np.asarray(s.parameters)[wrong] for s in (step.before, step.after))
    number = step.number + 1
    if len(after) > 1 and before.any() and not after.any():
        said = f"Where the weights are wrong after step {number}, all are 0: they were never "
        return [Diagnosis("update-skipped", f"{said}written, and new memory is 0", 0.0)]
    slots = list(zip(step.before.slots, step.after.slots, strict=True))
    stays = slots and np.array_equal(before, after)
    if stays and all(_equal(now, then, wrong) for then, now in slots):
        said = f"Neither the weights nor the optimizer's state moved in step {number}: the update "
        return [Diagnosis("update-skipped", f"{said}was left out, or went elsewhere", 0.0)]
    return []


def _ages(after: State, steps: Sequence[Step], wrong: Array) -> tuple[list[int], list[int]]:
    """Return how many steps old the weights could be, and the state, where they are wrong."""
    weights, state = [], []
    for age, step in enumerate(reversed(steps[-FAR:]), 1):
        if _equal(after.parameters, step.before.parameters, wrong):
            weights.append(age)
        pairs = zip(after.slots, step.before.slots, strict=True)
        if all(_equal(now, then, wrong) for now, then in pairs):
            state.append(age)
    return weights, state


def _equal(now: Array, then: Array, which: Array) -> bool:
    return bool(np.array_equal(np.asarray(now)[which], np.asarray(then)[which]))


def _anything(state: State, which: Array) -> bool:
    """Return whether an optimizer's state is other than new."""
    return any(np.asarray(slot)[which].any() for slot in state.slots)
