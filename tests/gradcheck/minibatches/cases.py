"""Small data sets with all that can be told apart in them, and jobs on them."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.data.prepared import prepare_arrays
from dptrain.experiment.defaults import settle
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data
from dptrain.experiment.own_code import MEMORY
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.minibatches.rows import check_rows
from dptrain.gradcheck.verdict import Verdict

Array = NDArray[Any]

WORKERS = (1, 2, 3)
DENSE: dict[str, Any] = {"layer": "dense", "units": 3}
ALL: dict[str, Any] = {"augment_shift": 2, "augment_rotate": 20.0, "augment_noise": 0.1}
FLAT: dict[str, Any] = {"layer": "flatten"}


class Case(NamedTuple):
    """A job, and the folder of its data."""

    job: Job
    folder: Path

    def checked(self) -> list[Comparison]:
        """Return what the check of rows finds."""
        return check_rows(self.job, self.folder, WORKERS)

    def passes(self) -> bool:
        """Return whether all that was compared is as it should be."""
        found = self.checked()
        return {each.edge for each in found} == {"rows"} and {each.verdict for each in found} == {
            Verdict.PASS
        }

    def named(self) -> tuple[str, str]:
        """Return kind and sentence of what the first comparison that fails is put down to."""
        failed = [each for each in self.checked() if each.verdict is Verdict.FAIL]
        best = failed[0].diagnoses[0]
        return best.kind, best.sentence


def case(
    folder: Path,
    x: Array | None = None,
    t: Array | None = None,
    test_part: int = 0,
    weights: Array | None = None,
    **settings: Any,
) -> Case:
    """Return a job: unless told otherwise 29 of 60 rows of 5 inputs, 12 of them held out to test.

    ``test_part``: the rows of a test part.
    """
    random = np.random.default_rng(4)
    x = random.standard_normal((60, 5)) if x is None else x
    t = np.arange(len(x)) % 3 if t is None else t
    described = {
        "dataset": MEMORY, "layers": [FLAT, DENSE], "input_shape": list(x.shape[1:]),
        "optimizer": "sgd", "lr": 0.1, "batch_size": 13, "shards": 5, "steps": 10, "seed": 3,
        "dtype": "float64", "train_rows": 29,
    } | settings  # fmt: skip
    experiment = build(Experiment, described, "the test")
    held = (x[:test_part], t[:test_part]) if test_part else (None, None)
    task: Literal["regression"] | None = "regression" if t.dtype.kind == "f" else None
    prepare_arrays(
        folder,
        x_train=x,
        t_train=t,
        x_test=held[0],
        t_test=held[1],
        w_train=weights,
        dtype=experiment.dtype,
        task=task,
        exact_targets=experiment.normalise_targets != "none",
    )
    data = opened_data(experiment, folder)
    targets = sum(data.target_shape)
    settled = settle(experiment, 1, data.classes, len(data.train), data.digest, targets)
    return Case(Job(settled, data), folder)


def images(folder: Path, shape: tuple[int, ...] = (6, 7), **settings: Any) -> Case:
    """Return a job on grey images no two pixels of which are alike, as far as that goes."""
    x = np.random.default_rng(5).integers(1, 256, (60, *shape), np.uint8)
    return case(folder, x, **settings)


def normalised(folder: Path, method: str = "standard", **settings: Any) -> Case:
    """Return a job on inputs of very different size, one of which never varies."""
    x = np.random.default_rng(2).standard_normal((60, 5)) * [1, 1e-6, 1e5, 1, 0] + [0, 0, 1e6, 9, 3]
    settings = {"layers": None, "model": "mlp:5-4-3", "input_shape": None} | settings
    return case(folder, x, normalise=method, **settings)


def standardised(folder: Path, **settings: Any) -> Case:
    """Return a job on targets that are standardised, of which one column never varies."""
    t = np.random.default_rng(3).standard_normal((60, 3)) * [1, 1e6, 0] + [1e9, 0, 3]
    settings = {"layers": None, "model": "mlp:5-4-3", "input_shape": None} | settings
    return case(folder, t=t, normalise_targets="standard", **settings)
