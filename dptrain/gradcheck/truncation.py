"""Which layer is wrong: the network's first layers alone, one more at a time, against formulas.

A layer at fault makes everything wrong that comes behind it, and of the gradient everything before
it as well, so that from the whole network's gradient it can hardly be told. A network cut off
behind a layer holds only what stands before: the first that differs from its formulas ends in the
layer at fault. Where all are right, it is the loss.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DptrainError
from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.forensics import UNEXPLAINED
from dptrain.gradcheck.reference.bounded import UNITS, Bounded
from dptrain.gradcheck.reference.layers import row_forward
from dptrain.gradcheck.reference.losses import row_losses
from dptrain.gradcheck.reference.network import Batch, Reference, leaf
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import backward as differentiate
from dptrain.nn.composite import Residual
from dptrain.nn.dense import Flatten
from dptrain.nn.layer import Blocks
from dptrain.nn.loss import BoundLoss
from dptrain.nn.losses import AnyLoss
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.passes import Arrangement, Pass, Replica, Targets
from dptrain.nn.regression import SumOfSquares
from dptrain.nn.row import Placed, place, shape_after
from dptrain.nn.workspace import Workspace

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
# A part of the network that cannot be computed, in reality or by formulas, tells nothing.
IMPOSSIBLE = (DptrainError, NotImplementedError, ValueError)


class Fault(NamedTuple):
    """What is wrong in one place.

    Attributes:
        kind: as of `Diagnosis`: ``"forward"``, ``"loss-value"``, ``"loss-derivative"``, or that of
            the likeliest mistake in the backward pass of such a layer.
        sentence: likewise.
    """

    kind: str
    sentence: str


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


def truncated(network: Network) -> Iterator[Truncated]:
    """Yield a network's beginnings, the shortest first.

    A layer that holds layers comes after those, each of which stands in its place for once.
    """
    for row in _beginnings(network.row, [], ""):
        yield Truncated(network, row)


def _beginnings(
    row: Sequence[Placed], before: Sequence[Placed], prefix: str
) -> Iterator[list[Placed]]:
    taken = list(before)
    for each in row:
        named = each._replace(name=f"{prefix}{each.name}")
        if isinstance(each.layer, Residual):
            for held, way in ((each.layer.layers, ""), (each.layer.shortcut, "shortcut.")):
                inner = place(held, each.input_shape)
                yield from _beginnings(inner, taken, f"{named.name}.{way}")
        taken.append(named)
        yield list(taken)


class Plain(SumOfSquares, frozen=True, tag="plain"):
    """The sum of squares once more: that of the job may be what is wrong."""

    def bind(
        self, outputs: Blocks, targets: Blocks, workspace: Workspace | None = None
    ) -> BoundLoss:
        """Return the loss bound to the buffers of one pass."""
        return BoundPlain(outputs, targets, workspace or Workspace())


class BoundPlain(BoundLoss):
    """``½ Σ (y - t)²``, as it is written."""

    def losses(self) -> list[float]:
        """Return it for each shard."""
        blocks = zip(self.outputs, self.targets, strict=True)
        return [float(each) for y, t in blocks for each in 0.5 * ((y - t) ** 2).sum(axis=(1, 2))]

    def backward(self, rows: int) -> Blocks:
        """``(y - t) / rows``."""
        for y, t, gradient in zip(self.outputs, self.targets, self.gradients, strict=True):
            gradient[...] = (y - t) / rows
        return self.gradients


def first_fault(
    job: Job, reference: Reference, parameters: Array, *, backward: bool = True
) -> Fault | None:
    """Return what is wrong in this process's forward and backward pass; None: it was not found.

    Args:
        job: what is computed.
        reference: formulas for the rows of a step.
        parameters: flat ``(size,)``, the job's dtype.
        backward: whether the backward pass is looked at, too.
    """
    # what is wrong in float32 is mostly so in float64, whose bounds are much narrower
    for dtype in dict.fromkeys((np.dtype(np.float64), job.dtype)):
        fault = _first_fault(reference, parameters.astype(dtype), job.shards, backward=backward)
        if fault is not None:
            return fault
    return None


def _first_fault(
    reference: Reference, parameters: Array, shards: int, *, backward: bool
) -> Fault | None:
    for part in truncated(reference.network):
        try:
            weights = parameters[part.taken]
            fault = _fault(part, weights, reference.batch, shards, backward=backward)
        except IMPOSSIBLE:
            continue
        if fault is not None:
            return fault
    return _fault_of_loss(reference, parameters, shards, backward=backward)


def _fault(
    part: Truncated, weights: Array, batch: Batch, shards: int, *, backward: bool
) -> Fault | None:
    """Return what is wrong with the last layer of a part whose other layers are right."""
    unit = UNITS[weights.dtype.name]
    wanted = _outputs(part, weights.astype(float), batch, unit)
    rows = Batch(batch.inputs, _targets(wanted, weights.dtype), batch.seed, batch.step)
    found = _gathered(part, Plain(), weights, rows, shards)
    with np.errstate(all="ignore"):
        found.forward()
    outputs = _by_shard(found.outputs)
    if any(_differs(y, right) for y, right in zip(outputs, wanted, strict=True)):
        return Fault("forward", f"{part.last.name}: its output is wrong")
    if not backward or not any(t.trained for t in part.all_tensors()):
        return None
    with np.errstate(all="ignore"):
        found.backward()
    formulas = Reference(part, Plain(), rows).gradient(weights.astype(float), unit)
    wrong = []
    for tensor in part.all_tensors():
        own = slice(tensor.start, tensor.stop)
        right = Bounded(formulas.total[own], formulas.bound[own], unit)
        if tensor.trained and _differs(found.gradients[0, own], right):
            wrong.append(tensor.name)
    return _fault_backwards(part.last, wrong) if wrong else None


def _fault_backwards(last: Placed, wrong: Sequence[str]) -> Fault:
    kind = KINDS.get(last.layer.kind, OTHERS)
    own = [f"{last.name}.{parameter.name}" for parameter in last.parameters]
    mine = ", ".join(name.rpartition(".")[2] for name in wrong if name in own)
    back = any(name not in own for name in wrong)
    if isinstance(last.layer, Residual) or not mine:  # what it holds is right by itself
        what = "what it passes back is wrong"
    elif back:
        what = f"the gradient of {mine} is wrong, and what it passes back"
    else:
        what = f"the gradient of {mine} is wrong"
        kind = "bias-axis" if mine == "b" else kind
    return Fault(kind, f"{last.name}: {what}")


def _fault_of_loss(
    reference: Reference, weights: Array, shards: int, *, backward: bool
) -> Fault | None:
    """Return what is wrong with the loss of the outputs that the network really has."""
    batch, kind = reference.batch, reference.loss.kind
    rows = sum(batch.sizes)
    found = _gathered(reference.network, reference.loss, weights, batch, shards)
    with np.errstate(all="ignore"):
        losses = found.forward()
        outputs = [each.astype(float) for each in _by_shard(found.outputs)]
        gradients = _by_shard(found.output_gradients())
        setting = Setting(batch.sizes, batch.seed, batch.step)
        value = derivative = False
        for s, (y, t) in enumerate(zip(outputs, batch.targets, strict=True)):
            node = leaf(y, UNITS[weights.dtype.name])
            own = reference.weighed(row_losses(reference.loss, node, t, setting), s).sum(0)
            differentiate(own / own.constant(float(rows)))
            assert node.gradient is not None
            value = value or _differs(losses[s], own.bounded)
            derivative = derivative or _differs(gradients[s], node.gradient)
    if value:
        what = "value and its derivative are" if derivative and backward else "value is"
        return Fault("loss-value", f"{kind}: its {what} wrong")
    if derivative and backward:
        return Fault("loss-derivative", f"{kind}: its derivative is wrong")
    return None


def _gathered(network: Network, loss: AnyLoss, weights: Array, batch: Batch, shards: int) -> Pass:
    """Return the real pass over the rows of a step."""
    x, t = np.concatenate(list(batch.inputs)), np.concatenate(list(batch.targets))
    bound = np.zeros_like(weights)  # as in a run, weights come into the vector that is bound
    replica = Replica(
        network,
        loss,
        [bound],
        Targets(t.shape[1:], t.dtype),
        seed=batch.seed,
        weighted=batch.weights is not None,
    )
    found = replica.pass_over(Arrangement(len(x), shards, 0, shards))
    np.copyto(bound, weights)
    found.moment.step = batch.step
    for block, inputs, targets in zip(found.blocks, found.inputs, found.targets, strict=True):
        own = slice(block.start, block.start + block.shards * block.rows)
        inputs[...], targets[...] = x[own], t[own]
    if batch.weights is not None:
        w = np.concatenate(list(batch.weights))
        for block, weights in zip(found.blocks, found.row_weights, strict=True):
            weights[...] = w[block.start : block.start + len(weights)]
    return found


def _outputs(part: Truncated, weights: Array, batch: Batch, unit: float) -> list[Bounded]:
    """Return what the formulas give, for each shard ``(rows, units)``."""
    setting, leaves, x = Reference(part, Plain(), batch).begin(weights, unit)
    with np.errstate(all="ignore"):
        return [each.bounded for each in row_forward(part.row, x, leaves, setting)]


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
    room = (1 + UNITS["float64"] / wanted.unit) * np.where(
        np.isnan(wanted.error), np.inf, wanted.error
    )
    with np.errstate(all="ignore"):
        near = np.abs(np.asarray(found, float) - wanted.value) <= room
    return bool((~near & np.isfinite(wanted.value)).any())


def of_loss(fault: Fault | None) -> Diagnosis:
    """Return what is wrong with a loss whose gradient is right."""
    if fault is not None:
        return Diagnosis(fault.kind, fault.sentence, 0.0)
    sentence = (
        "every layer, the gradient and each shard's loss are right: losses are summed wrongly"
    )
    return Diagnosis("loss-sum", sentence, 0.0)


def with_fault(fault: Fault | None, found: list[Diagnosis]) -> list[Diagnosis]:
    """Return diagnoses with that of a fault among the first two, unless the first is of its kind.

    Of what explains everything there may be much, and where there is no number, nothing. It is the
    first where one process is explained by what only several can do, or not at all.
    """
    if fault is None or (found and found[0].kind == fault.kind):
        return found
    others = [each for each in found if each.kind != fault.kind]
    nothing = ANYTHING | (OF_ROWS if fault.kind in FORWARD else frozenset())
    if others and others[0].kind in nothing:
        return [Diagnosis(fault.kind, fault.sentence, 0.01), *others]
    return [*others[:1], Diagnosis(fault.kind, fault.sentence, 0.01), *others[1:]]
