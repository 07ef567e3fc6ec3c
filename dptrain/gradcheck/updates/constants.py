"""Factors that a run has too many or too few, put in words: what of the experiment they are."""

import math
from collections.abc import Iterator

from dptrain.experiment.job import Job

# Factors that agree to so much are the same; a fit to a float32 run is less certain than this
# where little of the change depends on the factor.
SAME = 1e-3


def named_factor(job: Job, workers: int, factor: float) -> str:
    """Return a factor in words: "0.333333 times what it should be (= 1 / 3 workers)"."""
    name = constant(job, workers, factor)
    what = f"{factor:.6g} times what it should be"
    return f"{what} (= {name})" if name else what


def constant(job: Job, workers: int, factor: float) -> str:
    """Return which constant of an experiment a factor is, or ``""``."""
    for name, value in _constants(job, workers):
        if value and math.isfinite(value) and value != 1:
            if math.isclose(factor, value, rel_tol=SAME):
                return name
            if math.isclose(factor, 1 / value, rel_tol=SAME):
                return f"1 / {name}"
    return ""


def _constants(job: Job, workers: int) -> Iterator[tuple[str, float]]:
    e = job.experiment
    yield f"{workers} workers", workers
    for name, letter in (("momentum", "μ"), ("decay", "decay"), ("beta1", "β₁"), ("beta2", "β₂")):
        value = getattr(e, name)
        if value is not None:
            yield letter, value
            yield f"(1 - {letter})", 1 - value
            yield f"√(1 - {letter})", math.sqrt(1 - value)
    lr = e.lr
    yield from (("the learning rate", lr), ("the learning rate squared", lr**2))
    if e.weight_decay and e.l1:
        yield "λ / l1", e.weight_decay / e.l1
    yield from (("λ", e.weight_decay), ("l1", e.l1), ("the limit of clipping", e.clip_norm or 0))
    yield "the workers squared", workers**2
    yield f"the {job.batch_size} rows of a minibatch", job.batch_size
    yield f"the {job.shards} shards", job.shards
    yield f"the {job.steps_per_epoch} steps of an epoch", job.steps_per_epoch
    yield "the training rows", len(job.dataset.train)
