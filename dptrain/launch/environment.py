"""What worker processes find in their environment."""

import os
from pathlib import Path

import dptrain

ONE_THREAD = dict.fromkeys(
    (
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: one BLAS thread, and this very package on the path."""
    package = str(Path(dptrain.__file__).resolve().parent.parent)
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(paths)}
