"""The numbers by which targets are standardised, computed a second time from the training rows."""

from collections.abc import Iterator

import numpy as np

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.minibatches import Stored, Visits
from dptrain.gradcheck.verdict import Verdict


def check_targets(job: Job, stored: Stored, visits: Visits) -> Iterator[Comparison]:
    """Compare mean and deviation with the definition; nothing where targets are as they are."""
    scale = job.experiment.target_scale
    if scale is None:
        return
    t = np.asarray(stored.t[visits.train], np.longdouble)
    mean = t.mean(axis=0)
    deviation = np.sqrt(np.square(t - mean).mean(axis=0))
    wanted = np.array([mean, np.where(t.min(axis=0) == t.max(axis=0), 1, deviation)], float)
    found = np.array([scale.mean, scale.deviation])
    limits = np.full_like(found, 8 * UNITS["float64"]) * np.abs(t).max(axis=0).astype(float)
    width = found.shape[1]
    tensors = [entry(name, (width,), i * width) for i, name in enumerate(("mean", "deviation"))]
    flat = [each.reshape(-1) for each in (found, wanted, limits)]
    name = "targets' scale = the training rows'"
    compared = compare(name, "rows", job.dtype.name, tensors, *flat)
    if compared.verdict is Verdict.FAIL:
        sentence = "Targets are not standardised by mean and deviation of the training rows."
        compared = compared._replace(diagnoses=(Diagnosis("target-scale", sentence, 0.0),))
    yield compared
