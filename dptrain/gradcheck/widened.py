"""Networks of the user's own whose ``params`` are float32 arrays, with float64 copies of them."""

import copy

import numpy as np

from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.own.network import OwnNetwork

# Float32 may change a loss by so much.
CLOSE = 1e-3


def narrow(job: Job) -> list[str]:
    """Return which ``params`` of a network of the user's own have less than float64."""
    assert isinstance(job.network, OwnNetwork)
    return [name for name, a in job.network.model.params.items() if a.dtype.itemsize < 8]


def widened(job: Job) -> Job | None:
    """Return a job with a copy of the network whose ``params`` are float64 arrays.

    None where the code cannot be copied, or does not take them: it raises, or finds another loss.
    """
    assert isinstance(job.network, OwnNetwork)
    other = copy.copy(job)
    weights = job.initial_parameters()
    try:
        other.network = job.network.with_code(job.network.model.with_arrays(float))
        found, wanted = (Local(each).loss(weights, 0) for each in (other, job))
    except Exception:  # noqa: BLE001 - of copying somebody's object, or of its code
        return None
    close = np.isclose(found, wanted, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    return other if close else None
