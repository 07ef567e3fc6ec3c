"""What saved weights were learnt for, beside what a run that begins with them is for."""

from collections.abc import Collection, Iterator

import numpy as np
from msgspec import convert

from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.data.target_scale import TargetScale
from dptrain.errors import UsageError
from dptrain.experiment.files import parse_toml
from dptrain.experiment.job import Job
from dptrain.experiment.own_code import MEMORY

# Of the deviation; samples of the same targets hardly differ by more.
_CLOSE = 0.1


def changed_meanings(job: Job, saved: Checkpoint, taken: Collection[str]) -> Iterator[str]:
    """Yield a sentence where inputs or outputs stand for something else than they did.

    Args:
        job: that begins with the weights.
        saved: the weights.
        taken: names of the tensors that were taken over.

    Raises:
        UsageError: the columns are the same in another order.
    """
    tensors = [tensor.name for tensor in job.network.all_tensors()]
    recorded = parse_toml(saved.experiment, "the saved weights")["experiment"]
    there = recorded.get("columns")
    here = job.experiment.columns
    if there and here and there != here and tensors[0] in taken:
        if sorted(there) == sorted(here):
            frame = job.experiment.dataset == MEMORY
            raise UsageError(
                "the weights to begin with were learnt from the same columns in another order; "
                f"give {'the frame with columns' if frame else '--columns'} {','.join(there)}"
            )
        yield (
            f"the weights were learnt for the columns {', '.join(there)}, and now are for "
            f"{', '.join(here)}"
        )
    names = str(saved.progress.get("class_names") or "")
    classes = list(job.dataset.class_names)
    if names and classes and names.split("\n") != classes and tensors[-1] in taken:
        yield (
            f"the weights' outputs stood for {', '.join(names.splitlines())}, and now stand for "
            f"{', '.join(classes)}"
        )
    if not classes and tensors[-1] in taken:
        plain = recorded.get("target_scale")
        before = None if plain is None else convert(plain, TargetScale)
        yield from _changed_units(before, job.experiment.target_scale)


def _changed_units(before: TargetScale | None, now: TargetScale | None) -> Iterator[str]:
    """Yield a sentence where outputs stand for targets in rather different units."""
    if before == now:
        return
    if before is not None and now is not None and len(before.mean) == len(now.mean):
        deviation = np.array(now.deviation)
        moved = np.abs(np.subtract(before.mean, now.mean)) / deviation
        if (moved < _CLOSE).all() and np.allclose(before.deviation, deviation, rtol=_CLOSE):
            return
    yield (
        f"the weights' outputs stood for targets {_units(before)}, and now stand for targets "
        f"{_units(now)}"
    )


def _units(scale: TargetScale | None) -> str:
    return "as they are" if scale is None else f"standardised by {scale}"
