"""Which layer is wrong: the network's first layers alone, one more at a time, against formulas.

A layer at fault makes everything wrong that comes behind it, and of the gradient everything before
it as well, so that from the whole network's gradient it can hardly be told. A network cut off
behind a layer holds only what stands before: the first that differs from its formulas ends in the
layer at fault. Where all are right, it is the loss.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DptrainError
from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.forensics import UNEXPLAINED
from dptrain.gradcheck.reference.bounded import UNITS, Bounded
from dptrain.gradcheck.reference.layers import row_forward
from dptrain.gradcheck.reference.network import Batch, Reference, leaf
from dptrain.gradcheck.reference.tape import backward as differentiate
from dptrain.nn.composite import Residual
from dptrain.nn.dense import Flatten
from dptrain.nn.layer import Blocks
from dptrain.nn.losses import AnyLoss
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.passes import Arrangement, Pass, Replica, TargetForm
from dptrain.nn.regression import LogCosh, MeanSquaredError, SumOfSquares
from dptrain.nn.row import Placed, place, shape_after

Array = NDArray[Any]

# What is most often wrong with a layer that is right forwards and wrong backwards.
KINDS = {
    "dropout": "dropout-other-mask",
    "batchnorm": "batchnorm-backward-local",
    "conv2d": "conv-flip",
    "maxpool2d": "pooling-ties",
    "avgpool2d": "missing-mean",
    "dense": "layer-input",
}
OTHERS = "activation-derivative"
# What a gradient of one process is like that says nothing of where it goes wrong.
ANYTHING = frozenset(
    (
        *(UNEXPLAINED, "scaled", "reset-early", "race", "stale-weights"),
        *("overlapping-shards", "same-shard", "shard-dropped", "shard-doubled", "shard-weights"),
    )
)
# Where outputs or losses are wrong, neither is it a matter of which rows count.
FORWARD = frozenset(("forward", "loss-value"))
OF_ROWS = frozenset(("padding-counted", "rows-lost", "mean-of-means", "wrong-divisor"))
# What a place leaves unexplained: what explains everything comes first.
LEFT = 0.01
# A part of the network that cannot be computed, in reality or by formulas, tells nothing.
IMPOSSIBLE = (DptrainError, NotImplementedError, ValueError)


class Truncated(Network):
    """Some layers from the beginning of another network, with flat outputs.

    Attributes:
        last: the layer at whose outputs it ends.
        taken: where its parameters stand in the other network's flat vector.
    """

    def __init__(self, whole: Network, row: Sequence[Placed]) -> None:
        """Cut; nothing need be trained, other than in a network that is.

        Args:
            whole: the other network.
            row: the layers, with the names that they have there.
        """
        self.last = row[-1]
        shape = shape_after(row, whole.input_shape)
        self.row = [*row, *(place([Flatten()], shape) if len(shape) > 1 else [])]
        self.layers = cast("tuple[AnyLayer, ...]", tuple(each.layer for each in self.row))
        self.names = tuple(each.name for each in self.row)
        self.shapes = [*(each.input_shape for each in self.row), shape_after(self.row, shape)]
        self.tables = tuple(n for each in row for n in each.layer.tables(each.input_shape))
        known = {tensor.name: tensor for tensor in whole.all_tensors()}
        taken, groups, start = [np.empty(0, np.intp)], [], 0
        for placed in self.row:
            group = []
            for parameter in placed.parameters:
                tensor = known[f"{placed.name}.{parameter.name}"]
                taken.append(np.arange(tensor.start, tensor.stop))
                group.append(tensor._replace(start=start, stop=start + len(taken[-1])))
                start = group[-1].stop
            groups.append(tuple(group))
        self.tensors, self.size, self.taken = tuple(groups), start, np.concatenate(taken)


def beginnings(
    row: Sequence[Placed], before: Sequence[Placed] = (), prefix: str = ""
) -> Iterator[list[Placed]]:
    """Yield the beginnings of a row of layers, the shortest first.

    A layer that holds layers comes after those, each of which stands in its place for once.

    Args:
        row: of a network, or of such a layer.
        before: layers that come before it.
        prefix: of the names of its layers.
    """
    taken = list(before)
    for each in row:
        named = each._replace(name=f"{prefix}{each.name}")
        if isinstance(each.layer, Residual):
            for held, way in ((each.layer.layers, ""), (each.layer.shortcut, "shortcut.")):
                inner = place(held, each.input_shape)
                yield from beginnings(inner, taken, f"{named.name}.{way}")
        taken.append(named)
        yield list(taken)


def first_fault(
    job: Job, reference: Reference, parameters: Array, *, backward: bool = True
) -> Diagnosis | None:
    """Return what is wrong in this process's forward and backward pass; None: it was not found.

    Its kind is ``"forward"``, ``"loss-value"``, ``"loss-derivative"``, or that of the likeliest
    mistake in the backward pass of such a layer.

    Args:
        job: what is computed.
        reference: formulas for the rows of a step.
        parameters: flat ``(size,)``, the job's dtype.
        backward: whether the backward pass is looked at, too.
    """
    # what is wrong in float32 is mostly so in float64, whose bounds are much narrower
    for dtype in dict.fromkeys((np.dtype(np.float64), job.dtype)):
        weights = parameters.astype(dtype)
        for row in beginnings(reference.network.row):
            part = Truncated(reference.network, row)
            try:
                fault = _of_layer(part, reference, weights[part.taken], job.shards, backward)
            except IMPOSSIBLE:
                continue
            if fault is not None:
                return fault
        if fault := _of_loss(reference, weights, job.shards, backward):
            return fault
    return None


def _of_layer(
    part: Truncated, whole: Reference, weights: Array, shards: int, backward: bool
) -> Diagnosis | None:
    """Return what is wrong with the last layer of a part whose other layers are right."""
    unit, plain = UNITS[weights.dtype.name], weights.astype(float)
    loss, batch = _other_loss(whole.loss), whole.batch._replace(weights=None)
    setting, leaves, x = Reference(part, loss, batch).begin(plain, unit)
    with np.errstate(all="ignore"):
        wanted = [each.bounded for each in row_forward(part.row, x, leaves, setting)]
        batch = batch._replace(targets=_targets(wanted, weights.dtype))
        found = _gathered(part, loss, weights, batch, shards)
        found.forward()
        outputs = _by_shard(found.outputs)
    if any(_differs(y, right) for y, right in zip(outputs, wanted, strict=True)):
        return Diagnosis("forward", f"{part.last.name}: its output is wrong", LEFT)
    trained = [t for t in part.all_tensors() if t.trained]
    if not backward or not trained:
        return None
    with np.errstate(all="ignore"):
        found.backward()
    formulas = Reference(part, loss, batch).gradient(plain, unit)
    wrong = []
    for tensor in trained:
        own = slice(tensor.start, tensor.stop)
        right = Bounded(formulas.total[own], formulas.bound[own], unit)
        if _differs(found.gradients[0, own], right):
            wrong.append(tensor.name)
    return _backwards(part.last, wrong) if wrong else None


def _backwards(last: Placed, wrong: Sequence[str]) -> Diagnosis:
    """Return the fault of a layer behind which, or in which, gradients of tensors are wrong."""
    kind = KINDS.get(last.layer.kind, OTHERS)
    own = [f"{last.name}.{parameter.name}" for parameter in last.parameters]
    mine = ", ".join(name.rpartition(".")[2] for name in wrong if name in own)
    if isinstance(last.layer, Residual) or not mine:  # what it holds is right by itself
        return Diagnosis(kind, f"{last.name}: what it passes back is wrong", LEFT)
    if any(name not in own for name in wrong):
        what = f"the gradient of {mine} is wrong, and what it passes back"
        return Diagnosis(kind, f"{last.name}: {what}", LEFT)
    kind = "bias-axis" if mine == "b" else kind
    return Diagnosis(kind, f"{last.name}: the gradient of {mine} is wrong", LEFT)


def _of_loss(reference: Reference, weights: Array, shards: int, backward: bool) -> Diagnosis | None:
    """Return what is wrong with the loss of the outputs that the network really has."""
    batch, kind = reference.batch, reference.loss.kind
    found = _gathered(reference.network, reference.loss, weights, batch, shards)
    with np.errstate(all="ignore"):
        losses = found.forward()
        outputs = [each.astype(float) for each in _by_shard(found.outputs)]
        gradients = _by_shard(found.output_gradients())
        value = derivative = False
        for s, y in enumerate(outputs):
            node = leaf(y, UNITS[weights.dtype.name])
            own = reference.row_losses(s, node).sum(0)
            differentiate(own / own.constant(float(sum(batch.sizes))))
            assert node.gradient is not None
            value = value or _differs(losses[s], own.bounded)
            derivative = derivative or _differs(gradients[s], node.gradient)
    if value:
        what = "value and its derivative are" if derivative and backward else "value is"
        return Diagnosis("loss-value", f"{kind}: its {what} wrong", LEFT)
    if derivative and backward:
        return Diagnosis("loss-derivative", f"{kind}: its derivative is wrong", LEFT)
    return None


def _other_loss(loss: AnyLoss) -> AnyLoss:
    """Return a loss that shares no code with that of the job, which may be what is wrong."""
    return LogCosh() if isinstance(loss, SumOfSquares | MeanSquaredError) else SumOfSquares()


def _gathered(network: Network, loss: AnyLoss, weights: Array, batch: Batch, shards: int) -> Pass:
    """Return the real pass over the rows of a step."""
    x, t = np.concatenate(list(batch.inputs)), np.concatenate(list(batch.targets))
    bound = np.zeros_like(weights)  # as in a run, weights come into the vector that is bound
    weighted = batch.weights is not None
    targets = TargetForm(t.shape[1:], t.dtype)
    replica = Replica(network, loss, [bound], targets, seed=batch.seed, weighted=weighted)
    found = replica.pass_over(Arrangement(len(x), shards, 0, shards))
    np.copyto(bound, weights)
    found.moment.step = batch.step
    places = [slice(block.start, block.start + block.shards * block.rows) for block in found.blocks]
    for own, inputs, wanted in zip(places, found.inputs, found.targets, strict=True):
        inputs[...], wanted[...] = x[own], t[own]
    if batch.weights is not None:
        w = np.concatenate(list(batch.weights))
        for own, row_weights in zip(places, found.row_weights, strict=True):
            row_weights[...] = w[own]
    return found


def _targets(outputs: Sequence[Bounded], dtype: np.dtype[Any]) -> list[Array]:
    """Return random targets as large as the outputs, so that what goes back is anything.

    Outputs much larger would go back themselves, which is a gradient that a normalisation takes
    for zero.
    """
    random = np.random.default_rng(0)
    size = max(float(np.abs(each.value).max(initial=0)) for each in outputs)
    scale = size if 0 < size < np.inf else 1.0
    return [(scale * random.standard_normal(each.shape)).astype(dtype) for each in outputs]


def _by_shard(blocks: Blocks) -> list[Array]:
    return [shard for block in blocks for shard in block]


def _differs(found: Array | float, wanted: Bounded) -> bool:
    """Return whether a number is farther from the formulas than rounding in both explains."""
    assert wanted.error is not None
    room = (1 + UNITS["float64"] / wanted.unit) * np.nan_to_num(wanted.error, nan=np.inf)
    with np.errstate(all="ignore"):
        near = np.abs(np.asarray(found, float) - wanted.value) <= room
    return bool((~near & np.isfinite(wanted.value)).any())


def of_loss(fault: Diagnosis | None) -> Diagnosis:
    """Return what is wrong with a loss whose gradient is right."""
    if fault is not None:
        return fault
    sentence = (
        "every layer, the gradient and each shard's loss are right: losses are summed wrongly"
    )
    return Diagnosis("loss-sum", sentence, 0.0)


def with_fault(fault: Diagnosis | None, found: list[Diagnosis]) -> list[Diagnosis]:
    """Return diagnoses, that of a fault first where the others say nothing of one process.

    Of what explains everything there may be much, and where there is no number, nothing.
    """
    if fault is None:
        return found
    nothing = ANYTHING | (OF_ROWS if fault.kind in FORWARD else frozenset())
    if found and found[0].kind not in nothing:
        return found
    return [fault, *(each for each in found if each.kind not in (fault.kind, UNEXPLAINED))]
