"""The weights of rows in steps, against those of the data."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.minibatches.sighted import Sighted
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.minibatches import Stored, Visits
from dptrain.gradcheck.verdict import Verdict

Array = NDArray[Any]

# Of the mean, of the divisions by it and by the largest, and of the dtype.
ROUNDINGS = 4


def check_weights(
    job: Job, seen: Sequence[Sighted], stored: Stored, visits: Visits
) -> Iterator[Comparison]:
    """Compare weights with those of the data, divided by their mean over the training rows.

    Args:
        job: the one that is checked.
        seen: its steps.
        stored: the data; nothing is compared where they have no weights.
        visits: which rows the steps should have.
    """
    if stored.w is None:
        return
    given = np.asarray(stored.w, float)
    relative = given * (len(visits.train) / given[visits.train].sum())
    mean = "divided by their mean over the rows that are trained on"
    for each in seen:
        if len(each.w) != len(each.wanted):
            continue  # which is told of the rows themselves
        wanted = relative[each.wanted]
        room = ROUNDINGS * (UNITS[job.dtype.name] + len(given) * UNITS["float64"]) * wanted
        found = compare(
            "row weights of a step = the data's",
            "rows",
            f"{job.dtype.name}, {each.where}",
            [entry("row weights", wanted.shape)],
            each.w,
            wanted,
            room,
        )
        if found.verdict is Verdict.FAIL:
            wrong = np.abs(each.w - wanted) > room
            sentence = f"Rows do not have their weights, {mean}."
            if (each.w[wrong] == 1).all():
                sentence = "Weights of rows are ignored."
            elif np.allclose(each.w, given[each.wanted]):
                sentence = f"Weights are as they were given, and not {mean}."
            elif np.allclose(np.sort(each.w), np.sort(wanted)):
                sentence = "Rows have the weights of other rows of their minibatch."
            found = found._replace(diagnoses=(Diagnosis("row-weights", sentence, 0.0),))
        yield found
