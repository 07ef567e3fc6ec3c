"""The search for what explains a wrong update: known mistakes first, then fits, then both in part.

What comes later has more numbers that are free, and explains a little more by chance; so it is
asked only where nothing simpler explains everything.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.penalty_slips import clip_slips, penalty_slips
from dptrain.gradcheck.rates import epoch_length
from dptrain.gradcheck.rule_slips import rule_slips
from dptrain.gradcheck.setting_fits import setting_fits
from dptrain.gradcheck.textbook import Slip
from dptrain.gradcheck.update_fits import Seen, fits

# What leaves no more than this explains everything: the rest is the rounding of float32.
EVERYTHING = 1e-3
# Elements times steps beyond which mistakes are not tried in parts of the steps, which takes as
# long as everything else several times over.
AFFORDABLE = 4_000_000


class Left(NamedTuple):
    """What a mistake leaves unexplained: of the weights, and of the optimizer's state."""

    weights: float
    state: float


Measure = Callable[[Slip], Left]


def search(
    seen: Seen, simple: Sequence[Slip], measure: Measure, known: Sequence[Diagnosis] = ()
) -> list[Diagnosis]:
    """Return what could be wrong, by how well it explains the state where the weights agree.

    Args:
        seen: of the run.
        simple: mistakes that are tried first.
        measure: what a mistake leaves.
        known: what was found otherwise; if it explains everything, only simple mistakes are tried.
    """
    tried: list[tuple[float, Diagnosis]] = []
    everything = [*simple, *_specific(seen)]
    stages: tuple[Callable[[], Iterable[Slip]], ...] = (
        lambda: everything,
        lambda: fits(seen),
        lambda: _in_parts(seen, everything),
        lambda: setting_fits(seen.job, lambda slip: measure(slip).weights),
    )
    for stage in stages:
        for slip in stage():
            left = measure(slip)
            tried.append((left.state, Diagnosis(slip.kind, slip.sentence, left.weights)))
        if any(each.residual <= EVERYTHING for each in (*known, *(own for _, own in tried))):
            break
    # what explains the weights equally well may yet differ in the state
    best: dict[str, Diagnosis] = {}
    for _, each in sorted(tried, key=lambda pair: (round(pair[1].residual, 9), pair[0])):
        best.setdefault(each.sentence, each)
    return list(best.values())


def _specific(seen: Seen) -> Iterator[Slip]:
    """Yield mistakes of the rule, clipping and penalties that the experiment has."""
    e = seen.job.experiment
    if e.clip_norm is not None:
        yield from clip_slips(seen.job)
    if e.l1 or e.weight_decay:
        yield from penalty_slips(seen.job)
    yield from rule_slips(seen.job, seen.workers)
    yield from _forgetting(seen)


def _forgetting(seen: Seen) -> Iterator[Slip]:
    """Yield a state that is lost again and again."""
    if seen.job.experiment.optimizer == "sgd":
        return
    begins = tuple(_begins(seen))
    names = {"mean": "first moment", "squares": "sum of squares", "velocity": "velocity"}
    if seen.job.experiment.optimizer in ("adam", "adamw"):
        names["squares"] = "second moment"
    state = next(iter(seen.predict(Slip()))).state
    if begins:
        lost = "The optimizer's state is cleared where an epoch begins"
        yield Slip("state-cleared", f"{lost}.", forgets=begins)
        also = f"{lost}, and its count of steps begins again."
        yield Slip("state-cleared", also, forgets=begins, restarts=True)
    for name in state if len(state) > 1 else ():
        what = f"The {names[name]} is"
        if begins:
            cleared = f"{what} cleared where an epoch begins."
            yield Slip("state-cleared", cleared, forgets=begins, loses=(name,))
        never = f"{what} not kept: every step begins with a new one."
        yield Slip("state-lost", never, forgets=None, loses=(name,))


def _begins(seen: Seen) -> list[int]:
    """Return the steps that begin an epoch, but the first of the run."""
    period = epoch_length(seen.job)
    return [n for n in seen.numbers if n and n % period == 0]


def _in_parts(seen: Seen, slips: Sequence[Slip]) -> Iterator[Slip]:
    """Yield every mistake in a part of the steps only."""
    numbers, period = seen.numbers, epoch_length(seen.job)
    if len(numbers) < 2 or len(numbers) * seen.job.network.size > AFFORDABLE:
        return
    parts: list[tuple[str, Iterable[int]]] = [
        ("the steps that begin an epoch", (n for n in numbers if n % period == 0)),
        ("the last steps of epochs", (n for n in numbers if n % period == period - 1)),
        ("every second step", (n for n in numbers if n % 2 == 1)),
        ("every second step", (n for n in numbers if n % 2 == 0)),
        ("the first step", numbers[:1]),
        ("the steps after the first", numbers[1:]),
        ("the steps behind the first epoch", (n for n in numbers if n >= period)),
        ("the warm-up", (n for n in numbers if n < seen.job.experiment.warmup)),
        ("the steps behind the warm-up", (n for n in numbers if n >= seen.job.experiment.warmup)),
    ]
    known: set[frozenset[int]] = {frozenset(numbers), frozenset()}
    for what, chosen in parts:
        only = frozenset(chosen)
        if only in known:
            continue
        known.add(only)
        for slip in slips:
            if slip.forgets == ():
                sentence = slip.sentence[0].lower() + slip.sentence[1:]
                yield replace(slip, sentence=f"Only in {what}: {sentence}", only=only)
