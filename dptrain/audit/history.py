"""What a run's folder tells of its course: the experiment, the records and the checkpoints."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from dptrain.arithmetic.platform import Arithmetic
from dptrain.checkpoint.checkpoint import step_of
from dptrain.errors import CheckpointError, RunFolderError, UsageError
from dptrain.experiment.files import read_toml
from dptrain.experiment.schema import Settled
from dptrain.experiment.validate import build
from dptrain.invocation import program, word
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.records import (
    ArithmeticRecord,
    DigestRecord,
    EndRecord,
    EpochRecord,
    ProlongedRecord,
    Record,
    StepRecord,
)
from dptrain.runfolder import RunFolder
from dptrain.weights.model_file import is_model_file


class Told(NamedTuple):
    """What a record tells of the moment after a step.

    Attributes:
        step: steps done.
        what: the record, such as ``"epoch 3"``.
        value: the loss of the step; the digest of the weights; or digests of tensors by name.
    """

    step: int
    what: str
    value: float | str | Mapping[str, str]


class Kept(NamedTuple):
    """A checkpoint.

    Attributes:
        step: steps done.
        name: ``"last"``, ``"best"`` or such as ``"epoch 3"``.
        path: of the file.
    """

    step: int
    name: str
    path: Path


@dataclass(frozen=True)
class History:
    """The course of a run, as its folder tells it.

    Attributes:
        path: of the folder.
        phases: the experiment, and from which step on: one, and one more each time that a run whose
            schedule goes by all of its steps was given others.
        stretches: how steps were computed, and from which step on; of runs that did not record it
            there are none.
        told: what the records tell, by steps done, in ascending order.
        kept: the checkpoints likewise.
        damaged: what is wrong with checkpoints that cannot be read, by name.
        end: the last step that anything is told of.
    """

    path: Path
    phases: list[tuple[int, Settled]]
    stretches: list[tuple[int, Arithmetic]]
    told: dict[int, list[Told]]
    kept: dict[int, list[Kept]]
    damaged: dict[str, str]
    end: int

    @property
    def experiment(self) -> Settled:
        """With which the run began."""
        return self.phases[0][1]

    def with_code(self, digest: str | None) -> "History":
        """Return the history of a run whose network is the user's code with this digest."""
        phases = [(first, replace(each, model_digest=digest)) for first, each in self.phases]
        return dataclasses.replace(self, phases=phases)

    def foreign(self, here: Arithmetic, begin: int, end: int) -> tuple[int, Arithmetic] | None:
        """Return the first of the steps that was computed otherwise than ``here``, and how.

        None where there is no such step, as far as the run recorded it.

        Args:
            here: how this process computes.
            begin: counted from 0.
            end: behind the last.
        """
        edges = [*(first for first, _ in self.stretches[1:]), end]
        for (first, made), edge in zip(self.stretches, edges, strict=False):
            step = max(first, begin)
            if step < min(edge, end) and made.fingerprint != here.fingerprint:
                return step, made
        return None

    def weights_told(self, step: int) -> str | None:
        """Return the digest of the weights after a step, where a record tells it."""
        return next((t.value for t in self.told.get(step, ()) if isinstance(t.value, str)), None)


def read_history(path: Path) -> History:
    """Return what a run's folder tells.

    Raises:
        UsageError: it is a model file.
        RunFolderError: there is no run, or it tells nothing.
    """
    if is_model_file(path):
        raise UsageError(
            f"{path} is a model, which does not tell how it was trained; name the run folder"
        )
    folder = RunFolder.open(path)
    values = read_toml(folder.experiment)["experiment"]
    experiment = build(Settled, values, str(folder.experiment))
    records = read_metrics(folder.metrics)
    told: dict[int, list[Told]] = defaultdict(list)
    for each in _told(records):
        told[each.step].append(each)
    kept: dict[int, list[Kept]] = defaultdict(list)
    damaged: dict[str, str] = {}
    for name, file in _checkpoints(folder):
        try:
            step = step_of(file)
        except CheckpointError as error:
            damaged[name] = str(error)
        else:
            kept[step].append(Kept(step, name, file))
    if not records and kept:  # there is one from the beginning on
        damaged["metrics.jsonl"] = f"{folder.metrics}: has lost all of its records"
    end = max([0, *told, *kept])
    if not end:
        raise RunFolderError(
            f"{folder.path}: tells of no step: neither metrics.jsonl nor a checkpoint does; "
            f"train it with `{program()} train {word(folder.experiment)}`"
        )
    return History(
        folder.path,
        _phases(experiment, records),
        [(each.step, each.arithmetic) for each in records if isinstance(each, ArithmeticRecord)],
        dict(sorted(told.items())),
        dict(sorted(kept.items())),
        damaged,
        end,
    )


def _told(records: Iterable[Record]) -> Iterator[Told]:
    for each in records:
        match each:
            case StepRecord(step=step, loss=loss) if loss is not None:
                yield Told(step, f"the loss of step {step}", loss)
            case DigestRecord(step=step, tensors=tensors):
                yield Told(step, f"the tensors after step {step}", tensors)
            case EpochRecord(step=step, epoch=epoch, digest=digest):
                yield Told(step, f"epoch {epoch:g}", digest)
            case EndRecord(best_step=step, digest=digest):
                yield Told(step, "the end, which restored the best epoch", digest)


def _phases(experiment: Settled, records: Iterable[Record]) -> list[tuple[int, Settled]]:
    found = [(0, experiment)]
    for each in records:
        if isinstance(each, ProlongedRecord):
            changed = replace(experiment, epochs=each.epochs, steps=each.steps)
            found.append((each.step, changed))
    return found


def _checkpoints(folder: RunFolder) -> Iterator[tuple[str, Path]]:
    for epoch, path in folder.kept().items():
        yield f"epoch {epoch}", path
    for name, path in (("best", folder.best), ("last", folder.last)):
        if path.is_file():
            yield name, path
