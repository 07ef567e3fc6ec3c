"""The Python API: training from a script or a notebook, without an ``if __name__`` guard.

Workers are started by exec and import only dptrain, never the calling script, so nothing in that
script is run twice.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from msgspec.structs import asdict, replace
from numpy.typing import ArrayLike, NDArray

from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.coordinator.observer import Observer
from dptrain.coordinator.resuming import continued, way_on
from dptrain.coordinator.session import Session
from dptrain.data.arrays import plain_array
from dptrain.data.frames import Names
from dptrain.data.prepared import prepare_arrays
from dptrain.errors import Interrupted, ResourceError, UsageError, machine_limit
from dptrain.experiment.execution import Execution
from dptrain.experiment.job import plain_job
from dptrain.experiment.moved_data import data_at
from dptrain.experiment.normalisation import offsets_for
from dptrain.experiment.own_code import MEMORY
from dptrain.experiment.python_words import in_python
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.nn.network import Network
from dptrain.own.functions import Params
from dptrain.own.network import OwnNetwork, drawing_kept
from dptrain.own.object_origin import ObjectOrigin
from dptrain.own.origin import Origin, is_own, own_name
from dptrain.report.api_observer import OnEpoch, telling
from dptrain.report.observers import SilentObserver, observer_for
from dptrain.report.streams import lenient
from dptrain.result import Result, result_from
from dptrain.runfolder import RunFolder
from dptrain.scratch import scratch_folder
from dptrain.settings import Settings
from dptrain.trained import TrainedNetwork

Arrays = tuple[ArrayLike, ArrayLike]


def fit(
    network: object,
    data: Arrays,
    *,
    test_data: Arrays | None = None,
    sample_weight: ArrayLike | None = None,
    params: Params | None = None,
    predict: Callable[[Params, NDArray[Any]], ArrayLike] | None = None,
    out: str | Path | None = None,
    resume: str | Path | Result | None = None,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    **settings: Unpack[Settings],
) -> Result:
    """Train a network on arrays, with several workers.

    Which weights training starts from: a `Network` is only a description, so each call starts from
    new weights, drawn by ``seed``. A trained network (`Result.network`, or what `load_run` returns)
    and an object of your own start from the weights that they hold, as with ``init_from=RUN``; the
    state of the optimizer and the count of epochs start from zero. ``resume=RUN`` continues a run
    where it stopped, with its optimizer state and its epochs.

    Args:
        network: layers, such as ``Network(784, [Dense(50), Sigmoid(), Dense(10)])``; or such a
            network with weights, a `TrainedNetwork` or a `Result`; or an object of your own with
            the methods that `dptrain.own.model` lists, which is called with rows and targets in
            the form they have in ``data``, and holds the trained weights afterwards; or a function
            ``loss_and_gradient(params, x, t)``, which returns the mean loss of the rows and a dict
            of its gradients.
        data: inputs ``(n, *input_shape)`` and targets: class numbers ``(n,)``, one-hot rows
            ``(n, classes)``, names of classes ``(n,)``, or real values ``(n,)`` or ``(n, units)``.
            Targets of -1 and 1 are two classes as well. uint8 inputs are grey values and divided
            by 255; other numbers are taken as they are. The column names of a data frame are
            stored with the run, and data frames given later are matched by them.
        test_data: inputs and targets to test on; without them a fraction ``test`` of the rows of
            ``data`` is held out.
        sample_weight: how much each row of ``data`` counts, ``(n,)``, 0 or more and not all 0, for
            a `Network`. In training a row's loss is multiplied by its weight, divided by the mean
            of the weights that are trained on; evaluations count rows alike.
        params: the initial weights for such a function, by name; trained in place.
        predict: for such a function, optional: ``predict(params, x)`` returns its outputs.
        out: the run folder; by default a new one under ``logs/``.
        resume: a run to continue, with the same network, arrays and settings, of which only
            ``epochs``, ``steps`` and ``patience`` may be raised. It ends with the same bits as a
            run that was never interrupted.
        progress: whether to show progress on standard error.
        on_epoch: called in this process after every epoch, with its `EpochRecord`.
        settings: any field of `Experiment` or `Execution`, such as ``epochs=5, lr=0.1, workers=2``.

    Raises:
        UsageError, DataError, ShapeError: something cannot be used as given.
        OwnCodeError: a network of your own raised an exception.
        NonFiniteError, WorkersLostError, ResourceError: the run could not continue.
        KeyboardInterrupt: after Ctrl-C, when the checkpoint has been written.
    """
    with in_python():
        return _fit(
            network,
            data,
            test_data,
            None if sample_weight is None else plain_array(sample_weight, "sample_weight"),
            settings=_plain(settings),
            params=params,
            predict=predict,
            out=out,
            resume=None if resume is None else _run_of(resume),
            progress=progress,
            on_epoch=on_epoch,
        )


def _fit(
    network: object,
    data: Arrays,
    test_data: Arrays | None,
    sample_weight: NDArray[Any] | None,
    *,
    settings: dict[str, Any],
    params: Params | None,
    predict: Callable[[Params, NDArray[Any]], ArrayLike] | None,
    out: str | Path | None,
    resume: Path | None,
    progress: bool,
    on_epoch: OnEpoch | None,
) -> Result:
    for key in ("dataset", "label", "columns", "header", "transpose"):
        if key in settings:
            raise UsageError(
                f"{key}={settings[key]!r} is for a data set that is named, as in dptrain.train; "
                "fit has the arrays, so give them as they should be"
            )
    begins = None
    if isinstance(network, Result):
        network = network.network
    if isinstance(network, TrainedNetwork):
        begins, network = network.saved(), _untrained(network, settings)
    execution = {k: settings.pop(k) for k in list(settings) if k in Execution.__struct_fields__}
    origin = None
    given = _pair(data, "train")
    names = Names.of(*given)
    train = _arrays(given, "train")
    test: tuple[NDArray[Any] | None, NDArray[Any] | None] = (None, None)
    if test_data is not None:
        test = _arrays(names.matched(*_pair(test_data, "test")), "test")
    if isinstance(network, Network):
        settings["layers"] = network.description()
        settings["input_shape"] = list(network.input_shape)
    else:
        origin = ObjectOrigin(network, params, predict)
        settings["model"] = origin.model
        settings["model_targets"] = "flat" if train[1].ndim == 1 else "rows"
    settings["dataset"] = MEMORY
    with ExitStack() as stack:
        resumed = None
        if resume is not None:
            begins, resumed = None, stack.enter_context(RunFolder.resume(resume))
            settings, execution = continued(resumed, settings, execution, out)
        experiment = build(Experiment, settings, "fit")
        folder = scratch_folder("data")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return _trained(
            experiment,
            build(Execution, execution, "fit"),
            out,
            progress,
            prepared=prepare_arrays(
                folder / "data",
                x_train=train[0],
                t_train=train[1],
                x_test=test[0],
                t_test=test[1],
                w_train=sample_weight,
                dtype=experiment.dtype,
                task=experiment.task,
                form=names.form,
                outputs=names.outputs or (),
                exact_targets=experiment.normalise_targets != "none",
                offsets=offsets_for(experiment),
            ),
            origin=origin,
            resumed=resumed,
            begins=begins,
            on_epoch=on_epoch,
        )


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with a run's folder for its result, and weights by class as a list."""
    found = {k: str(v.run) if isinstance(v, Result) else v for k, v in settings.items()}
    weights = found.get("class_weights")
    if isinstance(weights, dict) and sorted(weights) == list(range(len(weights))):
        found["class_weights"] = [weights[i] for i in range(len(weights))]
    return found


def _run_of(run: str | Path | Result) -> Path:
    return run.run if isinstance(run, Result) else Path(run)


def _untrained(trained: TrainedNetwork, settings: dict[str, Any]) -> Network:
    """Return the network without its weights; what normalises its data becomes settings."""
    if isinstance(trained.network, OwnNetwork):
        raise UsageError(
            f"{trained.network.name} holds its trained weights itself; give fit that object again"
        )
    network = trained.network
    layers = list(network.layers)
    settings.setdefault("normalise_targets", trained.experiment.normalise_targets)
    if trained.experiment.normalise != "none":
        settings.setdefault("normalise", trained.experiment.normalise)
        del layers[0]
    return Network(network.input_shape, layers)


def _pair(data: object, part: str) -> tuple[Any, Any]:
    """Return inputs and targets; refuse anything but a pair of them."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        shape = np.shape(data) if isinstance(data, np.ndarray) else None
        what = f"an array of shape {shape}" if shape else f"a {type(data).__name__}"
        raise UsageError(
            f"fit takes inputs and targets as a pair, fit(network, (x, t)); the {part} data are "
            f"{what}"
        )
    return data[0], data[1]


def _arrays(pair: tuple[Any, Any], part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    return plain_array(pair[0], f"x_{part}"), plain_array(pair[1], f"t_{part}")


def train(
    experiment: Experiment | None = None,
    execution: Execution | None = None,
    *,
    network: object | None = None,
    out: str | Path | None = None,
    resume: str | Path | Result | None = None,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Run an experiment, as ``dptrain train`` does.

    Args:
        experiment: such as ``Experiment(model="mlp:784-100-10", epochs=5)``; may be left out with
            ``resume``.
        execution: such as ``Execution(workers=4)``; by default that of the run to continue, or
            ``Execution()``.
        network: an object of your own, as for `fit`, instead of the experiment's model.
        out: the run folder; by default a new one under ``logs/``.
        resume: a run to continue, as for `fit`. An experiment given beside it must be the same,
            except that ``dataset`` may name another place where the same data are.
        progress: whether to show progress on standard error.
        on_epoch: as for `fit`.

    Raises:
        UsageError, DataError, ShapeError: something cannot be used as given.
        OwnCodeError: a network of your own raised an exception.
        NonFiniteError, WorkersLostError: the run could not continue.
        KeyboardInterrupt: after Ctrl-C, when the checkpoint has been written.
    """
    with in_python(), ExitStack() as stack:
        wanted = build(Experiment, _plain(asdict(experiment or Experiment())), "Experiment")
        if wanted.dataset == MEMORY:
            raise UsageError(
                f"dataset={MEMORY!r} is for fit, which has the arrays; name a data set"
            )
        runs_as = build(Execution, asdict(execution or Execution()), "Execution")
        origin = None if network is None else ObjectOrigin(network)
        if origin is not None:
            wanted = replace(wanted, model=origin.model)
        resumed = prepared = None
        if resume is not None:
            resumed = stack.enter_context(RunFolder.resume(_run_of(resume)))
            given = {} if experiment is None else plain_job(wanted)
            if wanted.layers is not None:
                del given["model"]
            lies_at = given.pop("dataset", None)
            ways = {} if execution is None else asdict(runs_as)
            found, ways = continued(resumed, given, ways, out)
            wanted = build(Experiment, found, str(resumed.path))
            runs_as = build(Execution, ways, "Execution")
            if lies_at is not None:
                wanted, prepared = data_at(wanted, lies_at)
        if origin is None and is_own(wanted.model):
            name = own_name(wanted.model)
            raise UsageError(
                f"the experiment's network is code, {wanted.model}; give an object of it, "
                f"network={name}(...), or the function {name}"
            )
        return _trained(
            wanted,
            runs_as,
            out,
            progress,
            prepared=prepared,
            origin=origin,
            resumed=resumed,
            on_epoch=on_epoch,
        )


def _trained(
    experiment: Experiment,
    execution: Execution,
    out: str | Path | None,
    progress: bool,
    prepared: Path | None = None,
    origin: Origin | None = None,
    resumed: RunFolder | None = None,
    begins: Checkpoint | None = None,
    on_epoch: OnEpoch | None = None,
) -> Result:
    if origin is not None and execution.join:
        raise UsageError(
            f"join={execution.join}: a worker that you start by hand cannot get an object of this "
            "script; name the network on both command lines, --model FILE.py:NAME"
        )
    shown: Observer = observer_for(sys.stderr) if progress else SilentObserver()
    observer = telling(shown, on_epoch)
    where = None if out is None else Path(out)
    session = Session(
        experiment,
        execution,
        observer,
        out=where,
        resumed=resumed,
        prepared=prepared,
        origin=origin,
        begins=begins,
    )
    try:
        with drawing_kept():
            outcome = session.run()
    except MemoryError as error:
        raise ResourceError(machine_limit(error)) from error
    except Interrupted:
        raise KeyboardInterrupt("stopped before the first step") from None
    if isinstance(outcome.job.network, OwnNetwork):
        outcome.job.network.load(outcome.parameters)
    if not outcome.finished:
        way = way_on(outcome.job.experiment, outcome.folder.path, origin)
        raise KeyboardInterrupt(f"stopped after step {outcome.steps}; continue with: {way}")
    found = result_from(outcome)
    if progress:
        for note in found.notes:
            print(note, file=lenient(sys.stderr))
    return found
