"""What is checked: an experiment made small, in the dtype that a comparison needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.data.dataset import Dataset
from dptrain.errors import DptrainError
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.dry_run import SettledByDryRun, settled_by_dry_run
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.schema import Experiment, Settled
from dptrain.experiment.settling import settled_for
from dptrain.nn.network import Network
from dptrain.own.origin import Origin

Array = NDArray[Any]
Dtype = Literal["float32", "float64"]

# A prime number of rows in five shards: 3, 3, 3, 2 and 2, and a last minibatch that leaves some of
# the shards empty.
BATCH_SIZE = 13
SHARDS = 5
STEPS = 4  # so that the last minibatch comes once more, after full ones
# Steps until weights are burnt in, and the updates that are compared: of three epochs.
BURNT_IN, UPDATES = 21, 8
START, TRAINED = "initial", "burnt in"


@dataclass(frozen=True)
class Subject:
    """An experiment to be checked.

    Attributes:
        experiment: as the user gave it, with the minibatch, shards and rows of the check.
        origin: of a network of the user's own.
        seed: of everything that the check itself draws.
        folders: of the prepared data, by dtype, where they were arrays.
        given: the experiment with the minibatch, shards, rows and steps that the user gave; as
            checked unless it is known.
    """

    experiment: Experiment
    origin: Origin | None = None
    seed: int = 0
    folders: Mapping[Dtype, Path] | None = None
    given: Experiment | None = None

    def job(self, dtype: Dtype = "float64", experiment: Settled | None = None) -> Job:
        """Return the job in a dtype, or of a variation of the experiment."""
        settled = experiment or self.settled(dtype)
        return Job(settled, opened_data(settled, self.data(dtype)), self.origin)

    def data(self, dtype: Dtype = "float64") -> Path:
        """Return the folder of the prepared data."""
        if self.folders is not None:
            return self.folders[dtype]
        return prepared_data(replace(self.experiment, dtype=dtype), centred=False)

    def whole_job(self) -> Job:
        """Return the job of the experiment as it was given, in float64, to be asked and not run."""
        return self.job(experiment=self.settled(whole=True))

    def settled(self, dtype: Dtype = "float64", *, whole: bool = False) -> Settled:
        """Return the experiment with everything decided; ``whole`` is the one that was given.

        Raises:
            DptrainError: the experiment makes no sense, as for training.
        """
        settled, _ = self._settled(dtype, whole=whole)
        if self.origin is None:
            return settled
        found = self._rehearsal
        settled = replace(settled, model_state=found.experiment.model_state)
        return replace(settled, shards=1) if found.whole else settled

    def _settled(self, dtype: Dtype, *, whole: bool = False) -> tuple[Settled, Dataset]:
        """Return the experiment with what can be decided without code of the user's, and its data.

        ``whole`` is as of `settled`.
        """
        given = replace((whole and self.given) or self.experiment, dtype=dtype)
        if self.origin is not None:  # which is checked as it is, also where it has been changed
            given = replace(given, model_digest=self.origin.digest)
        dataset = opened_data(given, self.data(dtype))
        return settled_for(given, dataset, 1, self.origin), dataset

    @cached_property
    def _rehearsal(self) -> SettledByDryRun:
        """What trying the network of the user's own has come to."""
        assert self.origin is not None
        given = (self.given or self.experiment).shards is not None
        return settled_by_dry_run(*self._settled("float64"), self.origin, shards_given=given)

    def points(self) -> dict[str, Array]:
        """Return the weights at which gradients are checked, by name, float64.

        The initial ones with small random numbers added, so that no bias is 0 and no two units
        alike; and those after some steps of training from there.
        """
        job = self.job()
        random = np.random.default_rng(self.seed)
        start = job.initial_parameters()
        for tensor in job.network.all_tensors():
            own = start[tensor.start : tensor.stop]
            if tensor.trained:
                spread = float(np.std(own)) or 0.1
                own += 0.1 * spread * random.standard_normal(len(own))
        return {START: start, TRAINED: _trained(job, start)}


def shrunk(settings: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return settings of an experiment as they are checked.

    Args:
        settings: as the user gave them.
        rows: that the data set has for training.
    """
    found = {
        k: v for k, v in settings.items() if k not in ("epochs", "patience", "min_improvement")
    }
    batch = min(int(found.get("batch_size") or BATCH_SIZE), rows)
    shards = int(found.get("shards") or SHARDS)
    found |= {"batch_size": batch, "shards": shards, "steps": BURNT_IN + STEPS + 1}
    if "train_rows" not in settings:
        found["train_rows"] = min(rows, 2 * batch + max(1, shards - 2))
    return found


def as_given(small: Experiment, settings: dict[str, Any], rows: int) -> Experiment:
    """Return an experiment with what `shrunk` changed as it was; arguments as there."""
    names = ("batch_size", "shards", "steps", "epochs", "train_rows")
    found = replace(small, **{name: settings.get(name) for name in names})
    batch = found.batch_size
    return found if batch is None else replace(found, batch_size=min(batch, rows))


def _trained(job: Job, parameters: Array) -> Array:
    """Return the weights after some steps; those before, should they run away or break down.

    What breaks down then does so again when it is checked, and is told.
    """
    slots = [np.zeros_like(parameters) for _ in job.updater.rule.slots]
    state = TrainingState(parameters.copy(), slots)
    engine = InlineEngine(job, state.parameters, state.slots)
    try:
        with np.errstate(all="ignore"):
            for _ in engine.train(0, BURNT_IN, lambda: False, BURNT_IN):
                pass
    except DptrainError:
        raise
    except Exception:  # noqa: BLE001 - of the code that is checked
        return parameters.copy()
    found: Array = engine.state().parameters
    return found if np.isfinite(found).all() else parameters.copy()


def first_step(point: str) -> int:
    """Return the step of the run at which weights are checked: those trained go on from there."""
    return BURNT_IN if point == TRAINED else 0


def is_own(job: Job) -> bool:
    """Return whether the network is the user's own, so that there are no formulas of it."""
    return not isinstance(job.network, Network)
