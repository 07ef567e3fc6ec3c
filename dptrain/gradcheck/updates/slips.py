"""The mistakes of optimizers that a failed step is compared with, as far as a job can show them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dptrain.arithmetic.shards import assign, shard_sizes
from dptrain.exchange.slices import slices
from dptrain.experiment.job import Job
from dptrain.gradcheck.updates.optimizers import decouples
from dptrain.gradcheck.updates.textbook import Array, Clipping, Slip
from dptrain.nn.network import Tensor

Partials = dict[int, Array]
Norm = Callable[[int, Array], float]  # of a step and its gradient


def slips(job: Job, workers: int, numbers: Sequence[int], partials: Partials) -> list[Slip]:
    """Return the mistakes that could show, the simpler ones first.

    Args:
        job: settled.
        workers: the world size, by which much is multiplied or divided that should not be.
        numbers: of the steps that were seen.
        partials: for each of them, every rank's part of the gradient, ``(ranks, size)``; where
            they are missing, nothing is tried that needs them.
    """
    e = job.experiment
    found = [
        Slip("gradient-sign", "The gradient has the wrong sign.", sign=-1),
        Slip("ascends", "The weights move up the gradient, not down.", rate=-1),
        Slip("update-applied-twice", "The update is applied twice in a step.", times=2),
        *_rates(job, workers),
    ]
    if e.clip_norm is not None:
        found += _clippings(job, workers, partials)
    if e.weight_decay or e.l1:
        found += _decays(job, workers)
    if e.optimizer != "sgd":
        found += _memories(job, numbers)
    if e.optimizer in ("adam", "adamw"):
        found += _times()
    if e.epsilon is not None:
        what = "ε stands inside the root: √(v + ε), not √v + ε."
        found.append(Slip("epsilon-inside", what, epsilon_inside=True))
    if any(t.average and not t.frozen for t in job.network.all_tensors()):
        what = "Running averages keep what they should take: momentum and 1 - momentum swapped."
        found.append(Slip("average-momentum-swapped", what, swaps_average=True))
    return found


def _rates(job: Job, workers: int) -> Iterator[Slip]:
    if workers > 1:
        w = workers
        times = f"multiplied by the {w} workers"
        yield Slip("lr-multiplied", f"The learning rate is {times}.", rate=w)
        yield Slip("lr-multiplied", f"The learning rate is {times}, twice.", rate=w * w)
        yield Slip("lr-divided", f"The learning rate is divided by the {w} workers.", rate=1 / w)
    if job.experiment.schedule != "constant" or job.experiment.warmup:
        yield Slip("schedule-shifted", "The schedule is one step ahead.", schedule=1)
        yield Slip("schedule-shifted", "The schedule is one step behind.", schedule=-1)


def _decays(job: Job, workers: int) -> Iterator[Slip]:
    if workers > 1:
        times = f"{workers} times, once for each worker"
        yield Slip("weight-decay-multiplied", f"Weight decay is applied {times}.", decay=workers)
        part = f"divided by the {workers} workers"
        yield Slip("weight-decay-divided", f"Weight decay is {part}.", decay=1 / workers)
    yield Slip("weight-decay-missing", "Weight decay is missing.", decay=0)
    all_of_them = "Weight decay applies to biases too."
    yield Slip("decay-on-biases", all_of_them, decays_all=True)
    if job.experiment.weight_decay:
        decoupled = decouples(job)
        where = "goes through the moments, as for adam" if decoupled else "bypasses the gradient"
        yield Slip("weight-decay-coupling", f"Weight decay {where}.", recouples=True)


def _memories(job: Job, numbers: Sequence[int]) -> Iterator[Slip]:
    if job.experiment.optimizer not in ("adagrad", "rmsprop"):
        yield Slip("momentum-sign", "The momentum has the wrong sign.", momentum=-1)
    nothing = "The optimizer's state is not kept: every step begins with a new one."
    yield Slip("state-lost", nothing, forgets=None)
    first = numbers[0] if numbers else 0
    if first:
        again = "A run that is carried on counts its steps from 0 again."
        yield Slip("state-lost", again, schedule=-first, time=-first)
    for number in numbers:
        lost = f"The optimizer's state was lost before step {number}"
        yield Slip("state-lost", f"{lost}.", forgets=(number,))
        yield Slip(
            "state-lost", f"{lost}, and its count of steps.", forgets=(number,), restarts=True
        )


def _times() -> Iterator[Slip]:
    off = "The bias correction's step is off by one: "
    yield Slip("adam-step", f"{off}t is one too large.", time=1)
    yield Slip("adam-step", f"{off}t is one too small.", time=-1)


def _clippings(job: Job, workers: int, partials: Partials) -> Iterator[Slip]:
    yield Slip("not-clipped", "The gradient is not clipped.", clip=lambda _, g, __: g)
    tensors = [t for t in job.network.all_tensors() if t.trained]
    if len(tensors) > 1:
        norms = "The norms of the tensors are summed, not their squares."
        yield Slip("norms-summed", norms, clip=_by_norm(lambda _, g: _summed(g, tensors)))
        alone = "Every tensor is clipped by itself, not the whole gradient."
        yield Slip("clipped-by-tensor", alone, clip=_by_tensor(tensors))
    yield Slip(
        "norm-without-root",
        "The gradient is clipped by its squared norm: the root is missing.",
        clip=_by_norm(lambda _, g: _norm(g) ** 2),
    )
    if workers == 1:
        return
    again = "The norm, which all ranks know already, is reduced again: "
    for factor, what in (
        (workers, f"it is taken {workers} times."),
        (1 / workers, f"it is divided by the {workers} workers."),
        (np.sqrt(workers), f"its square is taken {workers} times."),
        (1 / np.sqrt(workers), f"its square is divided by the {workers} workers."),
    ):
        yield Slip(
            "norm-reduced-again",
            again + what,
            clip=_by_norm(_scaled(factor)),
        )
    yield from _between_ranks(job, workers, partials)


def _between_ranks(job: Job, workers: int, partials: Partials) -> Iterator[Slip]:
    parts = [s for s in slices(job.network.size, workers) if s[0] < s[1]]
    norms = "are summed, not their squares."
    if len(parts) > 1:
        yield Slip(
            "norms-summed",
            f"The norms of the ranks' slices {norms}",
            clip=_by_norm(lambda _, g: sum(_norm(g[low:high]) for low, high in parts)),
        )
        alone = "Every rank clips its slice by that slice's own norm."
        yield Slip("clipped-by-slice", alone, clip=_by_slice(parts))
    if partials:
        before = "Every rank clips its own part of the gradient before they are summed."
        yield Slip("clip-before-reduce", before, clip=_by_rank(partials))
        both = "Every rank clips its own part of the gradient, and their sum is clipped once more."
        yield Slip("clip-before-reduce", both, clip=_again(_by_rank(partials)))
        before = "Every rank clips the mean gradient of its own rows, and nobody the sum."
        yield Slip("clip-before-reduce", before, clip=_by_rank(partials, _shares(job, workers)))
        yield Slip(
            "norms-summed",
            f"The norms of the ranks' parts of the gradient {norms}",
            clip=_by_norm(lambda step, _: sum(map(_norm, partials[step]))),
        )


def _again(clip: Clipping) -> Clipping:
    def clipped(step: int, g: Array, limit: float) -> Array:
        found = clip(step, g, limit)
        norm = _norm(found)
        return found * min(1.0, limit / norm) if norm else found

    return clipped


def _norm(g: Array) -> float:
    return float(np.sqrt(np.sum(g * g)))


def _scaled(factor: float) -> Norm:
    return lambda _, g: factor * _norm(g)


def _summed(g: Array, tensors: Sequence[Tensor]) -> float:
    return sum(_norm(g[t.start : t.stop]) for t in tensors)


def _limited(g: Array, norm: float, limit: float) -> Array:
    return g * min(1.0, limit / norm) if norm else g


def _by_norm(norm: Norm) -> Clipping:
    return lambda step, g, limit: _limited(g, norm(step, g), limit)


def _by_tensor(tensors: Sequence[Tensor]) -> Clipping:
    return _by_slice([(t.start, t.stop) for t in tensors])


def _shares(job: Job, workers: int) -> Callable[[int], Array]:
    """Return each rank's share of the rows of a step, of which the last may have none."""

    def shares(step: int) -> Array:
        sizes = shard_sizes(job.rows(step), job.shards)
        rows = [sum(sizes[low:high]) for low, high in assign(job.shards, workers)]
        return np.array(rows) / job.rows(step)

    return shares


def _by_slice(parts: Sequence[tuple[int, int]]) -> Clipping:
    def clip(step: int, g: Array, limit: float) -> Array:  # noqa: ARG001
        found = g.copy()
        for low, high in parts:
            found[low:high] = _limited(g[low:high], _norm(g[low:high]), limit)
        return found

    return clip


def _by_rank(partials: Partials, of: Callable[[int], Array] | None = None) -> Clipping:
    """Each rank's part is clipped; with the ranks' shares of a step at its share of the limit."""

    def clip(step: int, g: Array, limit: float) -> Array:
        shares = np.ones(len(partials[step])) if of is None else of(step)
        parts = zip(partials[step], shares, strict=True)
        found: Array = sum(
            (_limited(part, _norm(part), limit * share) for part, share in parts), np.zeros_like(g)
        )
        return found

    return clip
