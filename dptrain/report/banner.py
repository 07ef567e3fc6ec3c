"""What a run is, in a few lines before it begins."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dptrain.arithmetic.shards import blocks
from dptrain.experiment.execution import Execution, exchange_of
from dptrain.experiment.job import Job
from dptrain.experiment.own_code import MEMORY
from dptrain.nn.losses import LOSSES, AnyLoss
from dptrain.nn.network import Network
from dptrain.nn.regression import Huber
from dptrain.own.network import OwnNetwork
from dptrain.own.origin import own_name

_MOST_WORDS = 10  # of a list on one line


def banner(job: Job, execution: Execution, folder: Path, first_step: int) -> str:
    """Return the network, the data, the split of a minibatch and the run's folder."""
    lines = [
        f"network   {network_line(job.network)}, {size_line(job)}, {job.dtype}",
        f"data      {data_line(job)}",
        *columns_lines(job),
        *target_lines(job),
        f"training  {training_line(job)}",
        *decay_lines(job),
        f"minibatch {minibatch_line(job, execution)}",
        f"run       {folder}",
    ]
    if isinstance(job.network, OwnNetwork):
        traits = job.network.model.traits().items()
        lines[1:1] = [f"{what:<9} {told}" for what, told in traits]
    if first_step:
        lines.append(f"resumed   at step {first_step} of {job.total_steps}")
    return "\n".join(lines)


def network_line(network: Network | OwnNetwork) -> str:
    """Return a network as its layers' widths, such as ``784-50-10 sigmoid``, or as its code."""
    if isinstance(network, OwnNetwork):
        return f"{own_name(network.name)} from {network.name.rpartition(':')[0]}"
    widths = [str(s[0]) if len(s) == 1 else "x".join(map(str, s)) for s in network.shapes]
    chain = [widths[0]]
    for layer, width in zip([each.layer for each in network.row], widths[1:], strict=True):
        if layer.kind in ("dense", "flatten"):
            chain.append(width)
    first = next(each.layer for each in network.row if each.layer.kind != "normalise")
    if len(chain) > 1 and first.kind == "flatten":
        chain = chain[1:]
    kinds = dict.fromkeys(
        each.layer.kind for each in network.row if each.layer.kind not in ("dense", "flatten")
    )
    return " ".join(["-".join(chain), *kinds])


def size_line(job: Job) -> str:
    """Return how many parameters there are, and how many of them are frozen."""
    frozen = sum(t.stop - t.start for t in job.network.all_tensors() if t.frozen)
    return f"{job.network.size:,} parameters" + (f" ({frozen:,} of them frozen)" if frozen else "")


def data_line(job: Job) -> str:
    """Return the data set's name and the sizes of its splits."""
    sizes = [f"{len(job.split(s)):,} {s}" for s in ("train", "validation", "test")]
    parts = [size for size in sizes if not size.startswith("0 ")]
    what = f"{job.dataset.classes} classes" if job.dataset.classes else "regression"
    weighed = ", weighed in training" * (job.dataset.train.weights is not None)
    return f"{job.dataset.name}, {what}: {', '.join(parts)} rows{weighed}"


def columns_lines(job: Job) -> list[str]:
    """Return how a table was understood: its columns and its label. One line, or none."""
    form = job.dataset.form
    if form is None:
        return []
    classes = f" ({listing(map(repr, job.dataset.class_names))})" * bool(job.dataset.classes)
    named = "data frame" if job.experiment.dataset == MEMORY else "header"
    parts = [
        f"{listing(form.columns)} -> {form.label or 'the targets'}{classes}",
        f"named by the {named}" if form.header else "no header",
    ]
    if form.row_weights is not None:
        parts.append(f"rows weighed by {form.row_weights}")
    if form.left_out:
        parts.append(f"left out as they number the rows: {', '.join(form.left_out)}")
    return [f"columns   {'; '.join(parts)}"]


def target_lines(job: Job) -> list[str]:
    """Return in which units targets are learnt, unless it is their own. One line, or none."""
    scale = job.experiment.target_scale
    if scale is None:
        return []
    what = "losses and huber_delta" if isinstance(job.loss, Huber) else "losses"
    return [
        f"targets   standardised by the training rows: {scale}; {what} are in these units, "
        "predictions in the targets' own"
    ]


def listing(words: Iterable[str]) -> str:
    """Return words with commas between them, of many the first and the last."""
    found = list(words)
    if len(found) <= _MOST_WORDS:
        return ", ".join(found)
    return f"{', '.join(found[: _MOST_WORDS - 2])}, … {found[-1]} ({len(found)} in all)"


def training_line(job: Job) -> str:
    """Return loss, optimizer, schedule and length."""
    e = job.experiment
    loss = [e.loss or "", *_loss_settings(job.loss)] if job.loss else ["a loss of its own"]
    parts = [", ".join(loss), f"{e.optimizer} lr {e.lr:g}"]
    if e.schedule != "constant" or e.warmup:
        parts.append(
            f"{e.schedule} schedule" + (f" after {e.warmup} warm-up steps" * (e.warmup > 0))
        )
    if e.weight_decay:
        parts.append(f"weight decay {e.weight_decay:g}")
    if e.l1:
        parts.append(f"l1 {e.l1:g}")
    if e.clip_norm:
        parts.append(f"clipped at {e.clip_norm:g}")
    if job.augmentation:
        parts.append(f"augmented by {augmentation_line(job)}")
    if e.patience:
        parts.append(f"patience {e.patience}")
    length = f"{_count(e.epochs, 'epoch')}, " if e.epochs else ""
    parts.append(length + _count(job.total_steps, "step"))
    return ", ".join(parts)


def decay_lines(job: Job) -> list[str]:
    """Return to which tensors penalties apply, where the user's own network has no layers to tell.

    One line, or none.
    """
    e = job.experiment
    if not isinstance(job.network, OwnNetwork) or not (e.weight_decay or e.l1):
        return []
    trained = [t for t in job.network.all_tensors() if t.trained]
    decayed, others = ([t.name for t in trained if t.decays is each] for each in (True, False))
    what = " and ".join(["weight decay"] * bool(e.weight_decay) + ["l1"] * bool(e.l1))
    verb = "apply" if e.weight_decay and e.l1 else "applies"
    but = f"; not to {', '.join(others)}" if others else ""
    return [f"penalty   {what} {verb} to {', '.join(decayed) or 'nothing'}{but}"]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _loss_settings(loss: AnyLoss) -> list[str]:
    """Return the loss's settings that are not its defaults, such as ``label smoothing 0.1``."""
    plain = LOSSES[loss.kind]()
    changed = [n for n in loss.__struct_fields__ if getattr(loss, n) != getattr(plain, n)]
    found = []
    for name in changed:
        value = getattr(loss, name)
        numbers = value if isinstance(value, tuple) else (value,)
        found.append(f"{name.replace('_', ' ')} {' '.join(f'{v:g}' for v in numbers)}")
    return found


def augmentation_line(job: Job) -> str:
    """Return what is done to the training samples."""
    what = job.augmentation
    parts = [
        f"shifts up to {what.shift}" * bool(what.shift),
        f"rotations up to {what.rotate:g}°" * bool(what.rotate),
        f"noise {what.noise:g}" * bool(what.noise),
    ]
    return " and ".join(filter(None, parts))


def minibatch_line(job: Job, execution: Execution) -> str:
    """Return how a minibatch is split, such as ``global batch 100 = 4 shards of 25 over 2 …``."""
    sizes: Counter[int] = Counter()
    for block in blocks(job.batch_size, job.shards, 0, job.shards):
        sizes[block.rows] += block.shards
    if empty := job.shards - sum(sizes.values()):
        sizes[0] = empty
    parts = [f"{n} shard{'s' * (n > 1)} of {rows}" for rows, n in sizes.items()]
    workers = execution.world_size
    exchange = exchange_of(execution)
    way = exchange.name + f" over {execution.transport}" * exchange.sockets
    return (
        f"global batch {job.batch_size} = {' + '.join(parts)} over {workers} "
        f"worker{'s' * (workers > 1)} ({way})"
    )
