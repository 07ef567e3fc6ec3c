"""Checking gradients from Python."""

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec.structs import replace
from numpy.typing import ArrayLike, NDArray

from dptrain.data.prepared import prepare_arrays
from dptrain.errors import UsageError
from dptrain.experiment.exchanges import ExchangeName
from dptrain.experiment.own_code import MEMORY
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.checking import Check, Plan, Watcher
from dptrain.gradcheck.comparison import worst_line
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.report import Report
from dptrain.gradcheck.subject import Dtype, Subject, as_given, shrunk
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.network import Network
from dptrain.own.object_origin import ObjectOrigin
from dptrain.own.origin import Origin
from dptrain.scratch import scratch_folder

Params = Mapping[str, NDArray[Any]]
DTYPES: tuple[Dtype, ...] = ("float64", "float32")


def check(
    network: object,
    data: tuple[ArrayLike, ArrayLike],
    *,
    workers: Sequence[int] = (2, 3),
    exchange: Sequence[ExchangeName] = ("shared",),
    params: dict[str, NDArray[Any]] | None = None,
    sample_weight: ArrayLike | None = None,
    check_seed: int | None = None,
    tell: Callable[[Any], None] = lambda _: None,
    **settings: Any,
) -> Report:
    """Check the gradients of a network: with real workers, in this process, and by numbers.

    Args:
        network: as for `dptrain.fit`: layers, an object of your own, or a function
            ``loss_and_gradient(params, x, t)`` with its ``params``.
        data: inputs and targets, as for `dptrain.fit`.
        workers: numbers of worker processes.
        exchange: how their gradients travel.
        params: of a function.
        sample_weight: of the rows, as for `dptrain.fit`.
        check_seed: of what the check itself draws; by default a new one, noted in the report.
        tell: is given every `Comparison` as it is made.
        settings: any field of `Experiment`, such as ``loss``, ``optimizer`` or ``batch_size``; by
            default minibatches of 13 rows in 5 shards.

    Returns:
        The report; ``report.verdict`` says what it comes to.

    Raises:
        UsageError, DataError, ShapeError: something cannot be used as given.
    """
    seed = secrets.randbits(32) if check_seed is None else check_seed
    ways = [Way(name, count) for name in exchange for count in workers]
    rows = len(np.asarray(data[0]))
    described = build(Experiment, shrunk(dict(settings), rows), "check")
    experiment, origin = _described(network, params, data, replace(described, dataset=MEMORY))
    folder = scratch_folder("check")
    try:
        folders = {
            dtype: _prepared(folder / dtype, data, sample_weight, dtype, experiment)
            for dtype in DTYPES
        }
        given = as_given(experiment, settings, rows)
        subject = Subject(experiment, origin, seed, folders, given)
        replay = f"check(…, check_seed={seed})"
        return Check(subject, Plan(ways), subject.points(), Watcher(tell), replay).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def assert_gradients(network: object, data: tuple[ArrayLike, ArrayLike], **settings: Any) -> Report:
    """Check as `check`, and raise unless everything holds.

    Returns:
        The report.

    Raises:
        AssertionError: a gradient is wrong, nothing certain can be said, or the check itself broke
            down; the message names what differs, where, and the likeliest reason.
    """
    report = check(network, data, **settings)
    if report.verdict not in (Verdict.PASS, Verdict.KINK):
        raise AssertionError(explained(report))
    return report


def explained(report: Report) -> str:
    """Return what is wrong, in a few lines."""
    lines = [f"gradients: {report.verdict.value} ({report.subject})"]
    for failure in report.failures:
        comparison = failure.comparison
        lines.append(f"{comparison.name} does not hold: {comparison.where}")
        if (worst := worst_line(comparison)) is not None:
            lines.append(f"  {worst}")
        lines += [f"  likely: {each.sentence}" for each in failure.diagnoses[:1]]
    return "\n".join([*lines, f"again: check_seed={report.seed}"])


def _described(
    network: object,
    params: dict[str, NDArray[Any]] | None,
    data: tuple[ArrayLike, ArrayLike],
    experiment: Experiment,
) -> tuple[Experiment, Origin | None]:
    if isinstance(network, Network):
        if params is not None:
            raise UsageError("params are for a function; the network has its own")
        layers, shape = network.description(), list(network.input_shape)
        return replace(experiment, layers=layers, input_shape=shape), None
    origin = ObjectOrigin(network, params)
    targets: Literal["rows", "flat"] = "flat" if np.ndim(data[1]) == 1 else "rows"
    return replace(experiment, model=origin.model, model_targets=targets), origin


def _prepared(
    folder: Path,
    data: tuple[ArrayLike, ArrayLike],
    weights: ArrayLike | None,
    dtype: Dtype,
    experiment: Experiment,
) -> Path:
    return prepare_arrays(
        folder,
        x_train=np.asarray(data[0]),
        t_train=np.asarray(data[1]),
        x_test=np.asarray(data[0])[:1],
        t_test=np.asarray(data[1])[:1],
        w_train=None if weights is None else np.asarray(weights),
        dtype=dtype,
        task=experiment.task,
        exact_targets=experiment.normalise_targets != "none",
    )
