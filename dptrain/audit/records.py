"""Comparing two runs by what their folders tell, without re-executing anything."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dptrain.audit.difference import same_bits
from dptrain.audit.history import History, Kept, Told
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint
from dptrain.errors import CheckpointError
from dptrain.experiment.files import plain
from dptrain.experiment.schema import Experiment


class SettingDifference(NamedTuple):
    """A setting in which two experiments differ; None where it is not set."""

    name: str
    one: Any
    other: Any


class Recorded(NamedTuple):
    """What two runs tell of the same moment, where it differs.

    Attributes:
        step: steps done.
        what: tells it, such as ``"epoch 3"``.
        since: the last step at which all that both tell is the same; 0 where there is none.
        tensors: that differ, where the records tell tensors apart.
    """

    step: int
    what: str
    since: int
    tensors: list[str]


class RunComparison(NamedTuple):
    """What the folders of two runs tell.

    Attributes:
        compared: how much both of them tell.
        until: the last step after which both tell of the weights, and of the same.
        first: the first difference.
        damaged: what is wrong with checkpoints that should have been compared, but cannot be read.
    """

    compared: int
    until: int
    first: Recorded | None
    damaged: tuple[str, ...] = ()


def differing_settings(one: Experiment, other: Experiment) -> list[SettingDifference]:
    """Return the settings that differ, in the order of the schema.

    A data set of another path is the same data set where its content is.
    """
    a, b = plain(one), plain(other)
    same_data = one.dataset_digest is not None and one.dataset_digest == other.dataset_digest
    return [
        SettingDifference(name, a.get(name), b.get(name))
        for name in Experiment.__struct_fields__
        if a.get(name) != b.get(name) and not (name == "dataset" and same_data)
    ]


class _Both(NamedTuple):
    """Something that both runs tell of one moment.

    Attributes:
        what: tells it.
        weights: whether it is of the weights, and not just the loss.
        same: whether they tell the same.
        tensors: that differ, as far as can be told.
    """

    what: str
    weights: bool
    same: bool
    tensors: list[str]


def compare_records(one: History, other: History) -> RunComparison:
    """Return what the two runs' records and checkpoints of the same moments tell."""
    damaged = tuple(dict.fromkeys([*_damaged(one, other), *_damaged(other, one)]))
    compared = since = until = 0
    for step in sorted({*one.told, *one.kept} & {*other.told, *other.kept}):
        for each in (*_records(one, other, step), *_checkpoints(one, other, step)):
            if not each.same:
                recorded = Recorded(step, each.what, since, each.tensors)
                return RunComparison(compared, until, recorded, damaged)
            compared += 1
            until = step if each.weights else until
        since = step
    return RunComparison(compared, until, None, damaged)


def last_common_state(one: History, other: History, before: int) -> Kept | None:
    """Return the last checkpoint in the first folder of which the second has the same.

    Args:
        one: run.
        other: run.
        before: so many steps; later ones do not count.
    """
    for step in sorted(one.kept.keys() & other.kept.keys(), reverse=True):
        pair = _readable(one, step), _readable(other, step)
        if step < before and pair[0] and pair[1] and not _unlike(pair[0][1], pair[1][1]):
            return pair[0][0]
    return None


def _records(one: History, other: History, step: int) -> Iterator[_Both]:
    for kind in (float, Mapping, str):
        a, b = (_of_kind(each, step, kind) for each in (one, other))
        if a is not None and b is not None:
            yield _Both(a.what, kind is not float, a.value == b.value, _unlike_names(a, b))


def _unlike_names(one: Told, other: Told) -> list[str]:
    """Return the names of the tensors whose digests differ."""
    a, b = one.value, other.value
    if not (isinstance(a, Mapping) and isinstance(b, Mapping)):
        return []
    return [name for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]


def _of_kind(history: History, step: int, kind: type) -> Told | None:
    return next((t for t in history.told.get(step, ()) if isinstance(t.value, kind)), None)


def _checkpoints(one: History, other: History, step: int) -> Iterator[_Both]:
    """Compare the first checkpoint of a moment with all others of it, by their content."""
    own, others = list(_readables(one, step)), list(_readables(other, step))
    if own and others:
        for kept, each in (*own[1:], *others):
            names = _unlike(own[0][1], each)
            yield _Both(f"checkpoint {kept.name}", weights=True, same=not names, tensors=names)


def _readable(history: History, step: int) -> tuple[Kept, Checkpoint] | None:
    return next(_readables(history, step), None)


def _readables(history: History, step: int) -> Iterator[tuple[Kept, Checkpoint]]:
    for kept in history.kept.get(step, ()):
        with contextlib.suppress(CheckpointError):
            yield kept, load_checkpoint(kept.path)


def _damaged(history: History, other: History) -> Iterator[str]:
    """Yield what is wrong with a run's checkpoints, as far as the other has some of the moment."""
    yield from history.damaged.values()
    for step in history.kept.keys() & other.kept.keys():
        for kept in history.kept[step]:
            try:
                load_checkpoint(kept.path)
            except CheckpointError as error:
                yield str(error)


def _unlike(one: Checkpoint, other: Checkpoint) -> list[str]:
    """Return the names of the arrays that differ, or that only one of the two has."""
    a, b = (
        {**c.tensors, **{f"optimizer {n}": s for n, s in c.optimizer.items()}} for c in (one, other)
    )
    names = dict.fromkeys([*a, *b])
    return [n for n in names if n not in a or n not in b or not same_bits(a[n], b[n])]
