"""What worker processes find in their environment."""

import os
import site
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
    """Return the environment of a worker: one BLAS thread, and this very package on the path.

    A package that was installed is found without PYTHONPATH, which stands before Python's own
    library: its folder there would put whatever else is installed in that library's place. Others
    come last, behind what the user has named.
    """
    package = str(Path(dptrain.__file__).resolve().parent.parent)
    named = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    if package not in map(os.path.realpath, [*_installed(), *named]):
        named.append(package)
    paths = {"PYTHONPATH": os.pathsep.join(named)} if named else {}
    return os.environ | ONE_THREAD | paths


def _installed() -> list[str]:
    """Return the folders of installed packages, in which every Python looks at last."""
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [*site.getsitepackages(), *user]
