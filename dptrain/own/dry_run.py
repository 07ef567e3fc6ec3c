"""One try of a network of the user's own before a run begins, on a copy of it.

What workers would stumble over is found in the coordinator, once, before anything is written; and
what would make results differ between executions, or with the number of shards, is warned of.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import OwnCodeError, UsageError
from dptrain.own.array_copies import Calls, held
from dptrain.own.model import OwnModel
from dptrain.own.network import OwnNetwork, SampleForm, Seeds
from dptrain.own.row_tests import DIVIDED, MOST, ORDER, SUM, TOGETHER, RowDependence, row_findings

Array = NDArray[Any]


class DryRun(NamedTuple):
    """What came of it.

    Attributes:
        warnings: sentences.
        coupled: why loss or gradient depend on the number of shards, as a clause; ``""`` where
            both are means over the rows, so that any shards give the same.
        unsteady: a sentence where the same call twice gives something else; otherwise ``""``.
    """

    warnings: list[str]
    coupled: str
    unsteady: str = ""


def dry_run(network: OwnNetwork, x: Array, t: Array, *, shards: int = 2) -> DryRun:
    """Compute losses, gradients and outputs of a few rows, and of these in other arrangements.

    Args:
        network: to try.
        x: rows as the data set has them ``(n, *sample_shape)``.
        t: their targets.
        shards: of a minibatch; with one, rows may be computed together without a warning.

    Raises:
        UsageError: something is missing, has a wrong shape, or does not heed ``params``.
        OwnCodeError: the network raised.
    """
    model = network.model.copied() or network.model
    model.load(model.tensors())
    rows, targets = network.form.rows(x), network.form.goals(t, x.dtype)
    seed = Seeds(0).evaluation
    with np.errstate(all="ignore"):
        try:
            before = model.loss(rows, targets, seed)
            first = gradients(model, rows, targets, seed)
        except OwnCodeError as error:
            raise with_form(error, network, x, t) from error.__cause__
        warnings = _overstepping(model)
        second = gradients(model, rows, targets, seed)
        after = model.loss(rows, targets, seed)
        if network.scores:
            model.correct(rows, targets, t, network.form.classes, seed)
        if strange := _not_finite(model, before, first):
            return DryRun([*warnings, strange], "")
        if before == after:
            warnings += _drawing(model, rows, targets, seed)
        unsteady = _unsteady(model, before == after, all(map(np.array_equal, first, second)))
        try:
            warnings += _heedless(model, rows[:MOST], targets[:MOST], seed)
        except OwnCodeError:  # it takes so many rows and no others
            warnings += _heedless(model, rows, targets, seed)
        findings = findings_of(model, rows, targets)
    told = {each.kind: each for each in reversed(findings)}
    for kind in [each for each in (SUM, DIVIDED, ORDER, TOGETHER) if each in told]:
        if shards > 1 or kind in (SUM, DIVIDED):
            warnings.append(f"{_sentence(told[kind], model)}{_REMEDIES[kind]}")
    if not findings:
        return DryRun(warnings, "", unsteady)
    return DryRun(warnings, _sentence(findings[0], model).partition(":")[0], unsteady)


def gradients(model: OwnModel, x: Array, t: Array, seed: int) -> list[Array]:
    """Return copies of the gradients, in the order of ``params``."""
    _, found = model.loss_and_gradient(x, t, seed)
    return [np.array(each) for each in found.values()]


def findings_of(model: OwnModel, x: Array, t: Array) -> list[RowDependence]:
    """Return what of loss and gradient is no mean over the rows; see `row_findings`.

    Nothing is said of what draws random numbers, which are others for other rows, nor of code that
    does not take other rows than it was given.

    Args:
        model: with the weights at which to look.
        x: rows as the network gets them.
        t: their targets.
    """
    x, t = x[:MOST], t[:MOST]
    if x.dtype == np.float32 and all(each.dtype == np.float64 for each in model.params.values()):
        x = x.astype(np.float64)  # in which more is seen
    first, *others = (Seeds(0).evaluation, 1, 2)

    def loss(x: Array, t: Array, seed: int = first) -> float:
        return model.loss(x, t, seed)

    def gradient(x: Array, t: Array, seed: int = first) -> list[Array]:
        return gradients(model, x, t, seed)

    try:
        here, slopes = loss(x, t), gradient(x, t)
        varies = any(loss(x, t, seed) != here for seed in others)
        draws = any(not all(map(np.array_equal, gradient(x, t, seed), slopes)) for seed in others)
        names = list(model.params)
        return row_findings(None if varies else loss, None if draws else gradient, x, t, names)
    except OwnCodeError:
        return []


_REMEDIES = {
    SUM: "; return the mean, or the weights depend on --shards and --batch-size",
    DIVIDED: "; add it as it is, or the weights depend on --shards and --batch-size",
    ORDER: "; so the weights depend on --shards; with --shards 1 a minibatch stays in one piece",
    TOGETHER: "; so the weights depend on --shards; with --shards 1 a minibatch stays in one piece",
}


def _sentence(finding: RowDependence, model: OwnModel) -> str:
    whose = f"in {model.name}" if " of " in finding.what else f"of {model.name}"
    return f"the {finding.what} {whose} is {finding.fact}"


def _not_finite(model: OwnModel, loss: float, slopes: Sequence[Array]) -> str:
    """Return a sentence about infinities or NaN at the start, or ``""``."""
    wrong = [name for name, g in zip(model.params, slopes, strict=True) if not np.isfinite(g).all()]
    what = [f"the loss of {model.name} is {loss}"] * (not np.isfinite(loss))
    what += [f"the gradient of {', '.join(wrong)} in {model.name} is not finite"] * bool(wrong)
    if not what:
        return ""
    return (
        f"{' and '.join(what)} before the first step, for the first rows of the data: look for "
        "log(0), 0/0 or an overflow in exp"
    )


def _overstepping(model: OwnModel) -> list[str]:
    """Return what is to be said where the last call has changed weights."""
    names = model.changed()
    if not names:
        return []
    which = ", ".join(f"params[{name!r}]" for name in names)
    return [
        f"{model.name} changes {which} in a call; that is undone before the next call, because "
        "dptrain's optimizer alone changes weights from step to step"
    ]


def _drawing(model: OwnModel, x: Array, t: Array, seed: int) -> list[str]:
    """Return what is to be said where inference draws random numbers, also behind a first step."""
    others, begin = (1, 2, 3), model.tensors()
    model.loss_and_gradient(x, t, seed)
    model.load([*begin[: len(model.params)], *model.state()])
    what = []
    if any(model.loss(x, t, each) != model.loss(x, t, seed) for each in others):
        what.append("loss(x, t)")
    if model.predicts:
        first = model.outputs(x, seed)
        if not all(np.array_equal(model.outputs(x, each), first) for each in others):
            what.append("predict(x)")
    model.load(begin)
    if not what:
        return []
    return [
        f"{model.name} draws random numbers in evaluations as well, in {' and '.join(what)}, as "
        "dropout should in training only; to be told the mode, take a keyword train_flg, or have "
        "an attribute training"
    ]


def _unsteady(model: OwnModel, same_loss: bool, same_gradients: bool) -> str:
    """Return what is to be said where the same call twice gives something else."""
    if not same_gradients:
        return (
            f"{model.name} gives other gradients for the same weights and rows; where it draws "
            "from a generator of its own, let it use np.random, which is seeded for every shard; "
            "as it is, the weights depend on the number of workers"
        )
    if not same_loss:
        return (
            f"{model.name} keeps something between calls that cannot be watched; each worker keeps "
            "its own, so that losses and accuracies depend on the number of workers, and "
            "checkpoints have none of it"
        )
    return ""


def _heedless(model: OwnModel, x: Array, t: Array, seed: int) -> list[str]:
    """Return what is to be said where layers may hold copies; raise where they surely do."""
    calls = Calls(
        _outputs(model, x, seed),
        lambda: model.loss(x, t, seed, training=True),  # to which the gradient belongs
        lambda: gradients(model, x, t, seed),
    )
    found = held(model, calls, calls.gradient())
    remedy = "its layers must hold the arrays of params themselves, not copies"
    if found.slopes and found.idle == found.slopes:
        told = (
            f"the loss of {model.name} does not change with its .params, though its gradient is "
            f"not zero; {remedy}"
        )
    elif found.lost:
        which = ", ".join(f"params[{name!r}]" for name in found.lost)
        told = (
            f"{which} of {model.name} is not what its layers compute with: nothing changes with "
            f"it, though its gradient is not zero; {remedy}"
        )
    elif found.aside and not (found.aside == found.slopes and model.memory.forms):
        which = ", ".join(f"params[{name!r}]" for name in found.aside)
        return [
            f"predict(x) of {model.name} does not change with {which}, though the gradient by it "
            f"is not zero; if that is not meant, {remedy}"
        ]
    else:
        return []
    if found.certain:
        raise UsageError(told)
    return [told]


def _outputs(model: OwnModel, x: Array, seed: int) -> Callable[[], Array] | None:
    if not model.predicts or model.outputs(x, seed).dtype.kind != "f":
        return None
    return lambda: model.outputs(x, seed)


def with_form(error: OwnCodeError, network: OwnNetwork, x: Array, t: Array) -> OwnCodeError:
    """Return the error with a word about another form of rows or targets, where that may be why.

    Args:
        error: that the network raised.
        network: which did.
        x: rows as the data set has them.
        t: their targets.
    """
    form, model = network.form, network.model.copied() or network.model
    targets = form._replace(flat=not form.flat).goals(t, x.dtype)
    if not form.classes or not _computes(model, form.rows(x), targets):
        return _with_shape(error, form, x)
    other = "class numbers, (n,)"
    if form.flat:
        other = f"one-hot rows, np.eye({form.classes})[t] of class numbers t"
    return OwnCodeError(
        f"{error.what}; it computes with {other}: give these; on the command line, "
        f"--model.targets {'rows' if form.flat else 'flat'}",
        error.traceback,
    )


def _computes(model: OwnModel, x: Array, t: Array) -> bool:
    try:
        with np.errstate(all="ignore"):
            model.loss_and_gradient(x, t, Seeds(0).evaluation)
    except (OwnCodeError, UsageError):
        return False
    return True


def _with_shape(error: OwnCodeError, form: SampleForm, x: Array) -> OwnCodeError:
    """Return the error with a word about images that come as flat rows, where that may be why."""
    fitting = isinstance(error.__cause__, (ValueError, IndexError, TypeError, AssertionError))
    if not fitting or x.ndim < 3 or len(form.inputs) != 1:
        return error
    image = x.shape[1:] if x.ndim > 3 else (1, *x.shape[1:])
    without = f" (or {_joined(x.shape[1:])}, without channels)" * (x.ndim == 3)
    return OwnCodeError(
        f"{error.what}; rows come flat, {(len(x), *form.inputs)}: --model.input-shape "
        f"{_joined(image)} gives them as images, {(len(x), *image)}{without}",
        error.traceback,
    )


def _joined(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))
