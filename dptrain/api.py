"""The Python API: training from a script or a notebook, without an ``if __name__`` guard.

Workers are started by exec and import only dptrain, never the calling script, so nothing in that
script is run twice.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from msgspec.structs import replace
from numpy.typing import ArrayLike, NDArray

from dptrain.coordinator.observer import Observer
from dptrain.coordinator.outcome import Outcome
from dptrain.coordinator.session import Session
from dptrain.data.arrays import plain_array
from dptrain.data.prepared import prepare_arrays
from dptrain.errors import UsageError
from dptrain.experiment.code import MEMORY
from dptrain.experiment.schema import (
    Dtype,
    Execution,
    Experiment,
    LossName,
    NormaliseName,
    OptimizerName,
    ScheduleName,
    TaskName,
)
from dptrain.experiment.validate import build
from dptrain.metrics.records import EpochRecord, Record, StepRecord, result_of
from dptrain.nn.network import Network
from dptrain.own.given import Given
from dptrain.own.model import Params
from dptrain.own.network import OwnNetwork, drawing_kept
from dptrain.own.origin import Origin
from dptrain.report.observers import SilentObserver, observer_for
from dptrain.scratch import scratch_folder
from dptrain.trained import TrainedNetwork

Arrays = tuple[ArrayLike, ArrayLike]


class Settings(TypedDict, total=False):
    """What `fit` takes beside network and data; the fields of `Experiment` and `Execution`."""

    normalise: NormaliseName
    loss: LossName
    init_from: str
    freeze: list[str]
    label_smoothing: float
    class_weights: list[float]
    positive_weight: float
    huber_delta: float
    task: TaskName
    validation: float
    test: float
    train_rows: int
    augment_shift: int
    augment_rotate: float
    augment_noise: float
    batch_size: int
    shards: int
    epochs: int
    steps: int
    gradient: Literal["backprop", "numerical"]
    patience: int
    min_improvement: float
    optimizer: OptimizerName
    lr: float
    momentum: float
    decay: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    l1: float
    decayed: list[str]
    clip_norm: float
    schedule: ScheduleName
    warmup: int
    decay_rate: float
    decay_every: int
    seed: int
    dtype: Dtype
    workers: int | Literal["auto"]
    exchange: Literal["inline", "star", "shared"]
    transport: Literal["ipc", "tcp"]
    trace: bool
    worker_timeout: float
    log_every: int
    checkpoint_every: int
    keep_checkpoints: bool
    record_digests: bool


@dataclass(frozen=True)
class Result:
    """What training came to.

    Attributes:
        network: the trained network.
        history: the records of the run, as in its ``metrics.jsonl``.
        digest: SHA-256 of the weights: equal for any number of workers.
        run: the run folder.
        steps_per_second: of the training steps alone.
    """

    network: TrainedNetwork
    history: Sequence[Record]
    digest: str
    run: Path
    steps_per_second: float

    @property
    def steps(self) -> list[StepRecord]:
        """The logged steps."""
        return [each for each in self.history if isinstance(each, StepRecord)]

    @property
    def evaluation(self) -> EpochRecord | None:
        """The evaluation of these weights: the last epoch's, or the best with early stopping."""
        return result_of(self.history)

    @property
    def epochs(self) -> list[EpochRecord]:
        """The evaluations at the end of each epoch."""
        return [each for each in self.history if isinstance(each, EpochRecord)]


def fit(
    network: object,
    data: Arrays,
    *,
    test_data: Arrays | None = None,
    params: Params | None = None,
    predict: Callable[[Params, NDArray[Any]], ArrayLike] | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    **settings: Unpack[Settings],
) -> Result:
    """Train a network on arrays, with several workers.

    Args:
        network: built from layers, such as ``Network(784, [Dense(50), Sigmoid(), Dense(10)])``; or
            an object of your own with the protocol of `dptrain.own.model`, which gets rows and
            targets in the form they have in ``data`` and holds the trained weights in the end; or a
            function ``loss_and_gradient(params, x, t)``, which returns the mean loss of the rows
            and a dict of its gradients.
        data: inputs ``(n, *input_shape)`` and targets: class numbers ``(n,)``, one-hot rows
            ``(n, classes)``, names of classes ``(n,)``, or real values ``(n,)`` or ``(n, units)``.
            -1 and 1 are two classes as well. uint8 inputs are grey
            values and divided by 255; other numbers are taken as they are.
        test_data: likewise; without it a fraction ``test`` of the rows is held out.
        params: the arrays that the function begins with, by name; trained in place.
        predict: of the function, if there is one: ``predict(params, x)`` returns outputs.
        out: the run folder; by default a new one under ``logs/``.
        progress: whether to show it on standard error.
        settings: any field of `Experiment` or `Execution`, such as ``epochs=5, lr=0.1, workers=2``.

    Raises:
        UsageError, DataError, ShapeError: something cannot be used as given.
        OwnCodeError: a network of your own raised.
        NonFiniteError, WorkersLostError: the run could not go on.
        KeyboardInterrupt: after Ctrl-C, when the checkpoint has been written.
    """
    values = dict(settings)
    execution = {k: values.pop(k) for k in list(values) if k in Execution.__struct_fields__}
    experiment = replace(build(Experiment, values, "fit"), dataset=MEMORY)
    origin = None
    x_train, t_train = _pair(data, "train")
    if isinstance(network, Network):
        layers, shape = network.description(), list(network.input_shape)
        experiment = replace(experiment, layers=layers, input_shape=shape)
    else:
        origin = Given(network, params, predict)
        targets: Literal["rows", "flat"] = "flat" if t_train.ndim == 1 else "rows"
        experiment = replace(experiment, model=origin.model, model_targets=targets)
    folder = scratch_folder("data")
    try:
        x_test, t_test = (None, None) if test_data is None else _pair(test_data, "test")
        prepared = prepare_arrays(
            folder / "data",
            x_train=x_train,
            t_train=t_train,
            x_test=x_test,
            t_test=t_test,
            dtype=experiment.dtype,
            task=experiment.task,
        )
        return _trained(
            experiment,
            build(Execution, execution, "fit"),
            out,
            progress,
            prepared=prepared,
            origin=origin,
        )
    finally:
        shutil.rmtree(folder)


def _pair(data: object, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return inputs and targets; refuse anything but a pair of them."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        shape = np.shape(data) if isinstance(data, np.ndarray) else None
        what = f"an array of shape {shape}" if shape else f"a {type(data).__name__}"
        raise UsageError(
            f"fit takes inputs and targets as a pair, fit(network, (x, t)); the {part} data are "
            f"{what}"
        )
    return plain_array(data[0], f"x_{part}"), plain_array(data[1], f"t_{part}")


def train(
    experiment: Experiment,
    execution: Execution | None = None,
    *,
    network: object | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Result:
    """Carry out an experiment, as ``dptrain train`` does.

    Args:
        experiment: such as ``Experiment(model="mlp:784-100-10", epochs=5)``.
        execution: such as ``Execution(workers=4)``.
        network: an object of your own, as for `fit`, in place of the experiment's model.
        out: the run folder; by default a new one under ``logs/``.
        progress: whether to show it on standard error.

    Raises:
        As `fit`.
    """
    if experiment.dataset == MEMORY:
        raise UsageError(f"dataset={MEMORY!r} is for fit, which has the arrays; name a data set")
    origin = None if network is None else Given(network)
    if origin is not None:
        experiment = replace(experiment, model=origin.model)
    return _trained(experiment, execution or Execution(), out, progress, origin=origin)


def _trained(
    experiment: Experiment,
    execution: Execution,
    out: str | Path | None,
    progress: bool,
    prepared: Path | None = None,
    origin: Origin | None = None,
) -> Result:
    if origin is not None and execution.join:
        raise UsageError(
            f"join={execution.join}: a worker that you start by hand cannot get an object of this "
            "script; name the network on both command lines, --model FILE.py:NAME"
        )
    observer: Observer = observer_for(sys.stderr) if progress else SilentObserver()
    where = None if out is None else Path(out)
    session = Session(experiment, execution, observer, out=where, prepared=prepared, origin=origin)
    with drawing_kept():
        outcome = session.run()
    if isinstance(outcome.job.network, OwnNetwork):
        outcome.job.network.load(outcome.parameters)
    if not outcome.finished:
        raise KeyboardInterrupt(f"stopped after step {outcome.steps}; see {outcome.folder.path}")
    return _result(outcome)


def _result(outcome: Outcome) -> Result:
    job = outcome.job
    trained = TrainedNetwork(
        job.network, outcome.parameters, job.experiment, job.dataset.class_names
    )
    return Result(
        network=trained,
        history=outcome.records,
        digest=outcome.digest,
        run=outcome.folder.path,
        steps_per_second=outcome.steps_per_second,
    )
