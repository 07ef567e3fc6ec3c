"""Settling the state and the shards of a network of the user's own by trying it."""

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.data.dataset import Dataset
from dptrain.errors import OwnCodeError, UsageError
from dptrain.experiment.own_code import own_network
from dptrain.experiment.schema import Settled
from dptrain.own.dry_run import dry_run, with_form
from dptrain.own.model import OwnModel
from dptrain.own.network import OwnNetwork, Seeds
from dptrain.own.origin import Origin
from dptrain.own.row_tests import MOST
from dptrain.own.side_effects import changed_outside
from dptrain.own.state_detection import DetectedState, answers, drawn_once, merges, watched

ROWS = 8
SEED = Seeds(0).evaluation


class SettledByDryRun(NamedTuple):
    """What trying a network has shown.

    Attributes:
        experiment: with what was found.
        network: with its state known.
        warnings: sentences for the user before the run.
        whole: whether the minibatch must be one shard.
    """

    experiment: Settled
    network: OwnNetwork
    warnings: list[str]
    whole: bool


def settled_by_dry_run(
    settled: Settled, dataset: Dataset, origin: Origin, *, shards_given: bool
) -> SettledByDryRun:
    """Try the network with a few rows, and settle what depends on it.

    What it keeps from step to step is found by watching it, unless the experiment has it on record.
    Where the rows of a minibatch are not independent of each other, as in batch normalisation, the
    minibatch is one shard, so that training is what the code does by itself; unless the user has
    given a number of shards.

    Args:
        settled: the experiment.
        dataset: opened.
        origin: of the network.
        shards_given: whether the number of shards is the user's.

    Raises:
        UsageError: something is missing, or cannot be used as it is.
        OwnCodeError: the network raised.
    """
    network = own_network(settled, dataset, origin)
    shard, more = _rows(settled, dataset)
    x, t = network.form.rows(shard[0]), network.form.goals(shard[1], shard[0].dtype)
    warnings = _outside(network.model, x, t)
    if settled.model_state is None:
        try:
            state = _watched(network.model, x, t)
        except OwnCodeError as error:
            raise with_form(error, network, *shard) from error.__cause__
        warnings += _lost(network, state.lost)
        if not warnings:
            warnings += _unlike(network.model, own_network(settled, dataset, origin).model, x, t)
        if state.forms:
            network = network.with_code(network.model.with_state(state.forms))
            settled = replace(settled, model_state=state.forms)
    shards = int(settled.shards or 1) if shards_given else 1
    try:
        found = dry_run(network, *more, shards=shards)
    except OwnCodeError:  # it may take as many rows as a shard has, and no others
        found = dry_run(network, *shard, shards=shards)
    if found.unsteady and not warnings:  # or it has been told why
        warnings.append(found.unsteady)
    warnings, coupled = warnings + found.warnings, found.coupled
    if own := network.model.copied() if settled.model_state else None:
        own.load(own.tensors())
        once = drawn_once(own, x, t, SEED)
        merged = merges(own, x, t, SEED) and not once
        _check_whole_numbers(own, x.dtype)
        if not merged and not coupled:
            coupled = f"what {own.name} keeps from step to step goes by the whole minibatch"
            if shards > 1:
                warnings.append(
                    f"{coupled}, so each of the {shards} shards is like a minibatch of its own; "
                    "--shards 1 trains as the code does by itself"
                )
    if coupled and not shards_given:
        settled = replace(settled, shards=1)
        warnings.append(f"{coupled}, so a minibatch is one shard, and one worker computes it")
    return SettledByDryRun(settled, network, warnings, bool(coupled) and not shards_given)


Rows = tuple[NDArray[Any], NDArray[Any]]


def _rows(settled: Settled, dataset: Dataset) -> tuple[Rows, Rows]:
    """Return the rows of a shard, and as many as it takes to see what rows have to do with others.

    Of shards of a single row, the first two have them.
    """
    batch, shards = settled.batch_size or 1, settled.shards or 1
    shard = min(batch, max(2, -(-batch // shards)))
    counts = (shard, max(shard, min(batch, MOST)))
    order, dtype = np.arange(counts[1], dtype=np.intp), np.dtype(settled.dtype)
    found = [dataset.train.take(order[:count], dtype) for count in counts]
    return found[0], found[1]


def _watched(model: OwnModel, x: NDArray[Any], t: NDArray[Any]) -> DetectedState:
    """Watch the network with few rows; with those of a shard where it takes no fewer."""
    with suppress(OwnCodeError):
        return watched(model, x[:ROWS], t[:ROWS], SEED)
    return watched(model, x, t, SEED)  # outside, so that its errors tell nothing of the others


def _lost(network: OwnNetwork, paths: list[str]) -> list[str]:
    if not paths:
        return []
    return [
        f"{network.model.name} keeps {', '.join(paths)} from call to call, which cannot be kept "
        "with its weights; let it be an array or a number that is there from the beginning; as it "
        "is, results depend on the number of workers, and checkpoints lack it"
    ]


def _outside(model: OwnModel, x: NDArray[Any], t: NDArray[Any]) -> list[str]:
    """Return what is to be said where the network changes what is not its own, or stays unseen."""
    copied = model.copied()
    if copied is None:
        return [
            f"{model.name} cannot be copied, so nobody has watched what it keeps from step to "
            "step: if it keeps anything, results depend on the number of workers, and checkpoints "
            "lack it"
        ]
    try:
        names = changed_outside(copied, x, t, SEED)
    except OwnCodeError:  # told later, with more
        return []
    if not names:
        return []
    return [
        f"{model.name} changes {', '.join(names)} in its calls; every process has its own, so "
        "what depends on that depends on the number of workers, and checkpoints lack it; let it "
        "be an attribute of the network"
    ]


def _unlike(network: OwnModel, again: OwnModel, x: NDArray[Any], t: NDArray[Any]) -> list[str]:
    """Return what is to be said where the constructor makes another network the next time."""
    one, other = network.copied(), again.copied()
    if one is None or other is None:
        return []
    remedy = "let it draw from np.random, which is seeded by the experiment's seed"
    found = []
    pairs = zip(one.params.items(), other.params.values(), strict=False)
    differ = [name for (name, a), b in pairs if not np.array_equal(a, b)]
    if differ:
        found.append(
            f"{one.name} begins with other weights, {', '.join(differ)}, each time that it is "
            f"made, so that nobody can repeat a run; {remedy}"
        )
    if one.shapes != other.shapes:
        return found
    for each in (one, other):
        each.load(one.tensors())
    usual = answers(one, x, t, SEED)
    if answers(one, x, t, SEED) == usual != answers(other, x, t, SEED):
        found.append(
            f"{one.name} computes something else each time that it is made, with the same weights, "
            "so that results depend on the number of workers, and evaluations are of another "
            f"network; {remedy}"
        )
    return found


def _check_whole_numbers(model: OwnModel, dtype: np.dtype[Any]) -> None:
    """Raise `UsageError` where the state that the last call has left is too large."""
    if path := model.memory.exceeding(dtype):
        raise UsageError(
            f"{model.name}.{path} holds whole numbers too large for {dtype}, in which it is kept "
            "with the weights; give --dtype float64, or let np.random draw random numbers"
        )
