"""A search on disk: what is searched, a line for every trial that has ended, and their runs."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from dptrain.checkpoint.atomic import atomic_write
from dptrain.errors import RunFolderError, suggestion
from dptrain.invocation import program, word
from dptrain.metrics.lines import whole_lines
from dptrain.runfolder import DEFAULT_PARENT, lock_folder, make_empty, new_folder
from dptrain.tune.methods import MethodName
from dptrain.tune.trial import Trial

VERSION = 1

_TRIAL = msgspec.json.Decoder(Trial)


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides a search; ``search.json``.

    Attributes:
        experiment: settings that the search does not touch, as plain data.
        execution: likewise; only decides the speed.
        parameters: as given on the command line.
        method: how they are chosen.
        trials: at most.
        metric: that ranks the trials.
        until: the goals, as given on the command line.
        prune: whether trials that fall behind are given up.
        side_by_side: how many trials run at a time; only decides the speed.
        behind: for TPE, which learns from the trials that are this far back: the number of trials
            that ran at a time when the search began.
        version: of this file.
    """

    experiment: dict[str, Any]
    execution: dict[str, Any]
    parameters: list[str]
    method: MethodName
    trials: int
    metric: str
    until: str = ""
    prune: bool = False
    side_by_side: int = 1
    behind: int = 1
    version: int = VERSION


class SearchFolder:
    """The folder of a search, locked until `close` or the end of a ``with``.

    Attributes:
        path: of the folder.
        lock: a descriptor; whoever inherits it holds the lock as well.
    """

    def __init__(self, path: Path) -> None:
        """Lock a folder that exists; raises RunFolderError when another process holds it."""
        self.path = path
        self.lock = lock_folder(path)

    @classmethod
    def create(cls, name: str, out: Path | None) -> Self:
        """Make the folder ``out``, or a new one under ``logs/``.

        Raises RunFolderError when it cannot be made or is not empty.
        """
        if out is None:
            return cls(new_folder(f"tune-{name}", DEFAULT_PARENT))
        make_empty(out)
        return cls(out)

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Find a search to go on with; raises RunFolderError when there is none."""
        folder = path.parent if path.is_file() else path
        if not (folder / "search.json").is_file():
            searches = sorted(str(each.parent) for each in folder.parent.glob("*/search.json"))
            near = suggestion(str(path), searches) or ";"
            raise RunFolderError(
                f"{path}: there is no search{near} name the folder that `dptrain tune` has made"
            )
        return cls(folder)

    @property
    def search_file(self) -> Path:
        """What is searched."""
        return self.path / "search.json"

    @property
    def trials_file(self) -> Path:
        """A line for every trial that has ended, in the order of their ends."""
        return self.path / "trials.jsonl"

    @property
    def ranking(self) -> Path:
        """The table of all trials, the best first."""
        return self.path / "ranking.md"

    @property
    def picture(self) -> Path:
        """The picture of the search."""
        return self.path / "tune.png"

    def run(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.path / f"trial-{number:03}"

    def write_search(self, search: Search) -> None:
        """Record what is searched."""
        atomic_write(self.search_file, msgspec.json.format(msgspec.json.encode(search)) + b"\n")

    def read_search(self) -> Search:
        """Return what is searched; raises RunFolderError when the file is damaged."""
        try:
            search = msgspec.json.decode(self.search_file.read_bytes(), type=Search)
        except (OSError, msgspec.DecodeError) as error:
            raise RunFolderError(f"{self.search_file}: cannot be read: {error}") from None
        if search.version != VERSION:
            raise RunFolderError(
                f"{self.search_file}: is of version {search.version}, this dptrain knows {VERSION}"
            )
        return search

    def add(self, trial: Trial) -> None:
        """Record a trial that has ended; raises RunFolderError when the disk is full."""
        line = msgspec.json.encode(trial) + b"\n"
        try:
            with self.trials_file.open("ab", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                if file.write(line) < len(line):
                    file.truncate(end)
                    raise OSError("the disk is full")
        except OSError as error:
            raise RunFolderError(
                f"{self.trials_file}: a trial could not be recorded: {error.strerror or error}; "
                f"free some space, then: {program()} tune --resume {word(self.path)}"
            ) from None

    def trials(self) -> list[Trial]:
        """Return the trials that have ended; of one that was done again, the last result.

        Drops a last line torn by a death. Raises RunFolderError when a line is no trial.
        """
        if not self.trials_file.exists():
            return []
        data = self.trials_file.read_bytes()
        lines = whole_lines(data)
        if data and not data.endswith(b"\n"):
            atomic_write(self.trials_file, [line + b"\n" for line in lines])
        found = {}
        for number, line in enumerate(lines, 1):
            try:
                trial = _TRIAL.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise RunFolderError(
                    f"{self.trials_file}: line {number} is not a trial ({error}); delete that line"
                ) from None
            found[trial.number] = trial
        return [found[number] for number in sorted(found)]

    def close(self) -> None:
        """Give the lock back."""
        os.close(self.lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
