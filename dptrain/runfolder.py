"""A run's folder: what stands where, who may write into it, and how it is found again."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from dptrain.checkpoint.atomic import sweep_temporaries
from dptrain.errors import RunFolderError, suggestion
from dptrain.invocation import program, word

DEFAULT_PARENT = Path("logs")

_EXPERIMENT = "experiment.toml"
_CHECKPOINTS = "checkpoints"
_LOCK = ".lock"
_PID = re.compile(rb"\d+\n")
_METRICS = "metrics.jsonl"
_BEGUN = "initial.safetensors"
_KEY = "worker.key"
_LEFT = re.compile(r"rank-\d+\.log|\..+\.tmp")
_KEPT = re.compile(r"epoch-(\d{4,})\.safetensors")
_SLUG_LIMIT = 80


class RunFolder:
    """One run on disk. Made by `create` or `create_at`, found again by `open` or `resume`.

    All but `open` hold the folder's lock until `close` or the end of a ``with``: two coordinators
    never write into one folder. The lock ends with the process, however that ends.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(
        cls, model: str, *, parent: Path = DEFAULT_PARENT, started: datetime | None = None
    ) -> Self:
        """Make ``<parent>/<time>-<model>``, with -2, -3 … appended when that exists.

        ``started`` is local time, now by default. Raises RunFolderError when the folder cannot be
        made.
        """
        return cls(new_folder(model, parent, started))._prepared()

    @classmethod
    def create_at(cls, path: Path) -> Self:
        """Make the run folder exactly here, in place of a run that was killed before it had saved.

        Raises RunFolderError unless it is new or empty, or such a run is all that it holds.
        """
        if not _was_never_saved(path):
            make_empty(path)
        run = cls(path)._prepared()
        if _was_never_saved(path):  # still, now that nobody else can begin there
            for left in path.iterdir():
                if _LEFT.fullmatch(left.name) or left in (run.metrics, run.begun, run.key):
                    left.unlink(missing_ok=True)
        elif not _is_empty(path):
            run.close()
            make_empty(path)
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """Find a run to read. ``path`` is its folder or something in it.

        Raises RunFolderError when there is no run there.
        """
        try:
            folder = _folder_of(path)
            if not _is_run(folder):
                raise _not_a_run(path, folder)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be read: {error.strerror or error}") from None
        return cls(folder)

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Find a run to continue, lock it, and sweep away what a killed coordinator left.

        Raises RunFolderError when there is no run there, it has no checkpoint `last`, or another
        coordinator holds it.
        """
        run = cls.open(path)
        run.existing_checkpoint("last")
        for entry in run.path.iterdir():
            if entry.exists() and not (entry.is_file() or entry.is_dir()):
                raise RunFolderError(
                    f"{entry}: is neither a file nor a folder; nothing of a run is like that, "
                    "remove it"
                )
        run._lock = lock_folder(run.path)
        for folder in (run.path, run.last.parent):
            sweep_temporaries(folder)
        with contextlib.suppress(OSError):
            run.key.unlink()
        return run

    @property
    def experiment(self) -> Path:
        """The experiment, from which the job can be run again."""
        return self.path / _EXPERIMENT

    @property
    def begun(self) -> Path:
        """The weights that a run began with, where they were not drawn."""
        return self.path / _BEGUN

    @property
    def metrics(self) -> Path:
        """A line per logged step and per epoch."""
        return self.path / _METRICS

    @property
    def trace(self) -> Path:
        """The timeline of the run, where one was asked for."""
        return self.path / "trace.json"

    @property
    def curves(self) -> Path:
        """The picture of loss and accuracy over epochs."""
        return self.path / "curves.png"

    @property
    def key(self) -> Path:
        """The key for workers that are started by hand, while there is a use for it."""
        return self.path / _KEY

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / _CHECKPOINTS / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint with the best score so far."""
        return self.path / _CHECKPOINTS / "best.safetensors"

    def of_epoch(self, epoch: int) -> Path:
        """Return the path of an epoch's checkpoint, where the run keeps them."""
        return self.path / _CHECKPOINTS / f"epoch-{epoch:04}.safetensors"

    def kept(self) -> dict[int, Path]:
        """Return the checkpoints that are kept of epochs, in order, by epoch."""
        found = {}
        for path in self.last.parent.glob("epoch-*.safetensors"):
            match = _KEPT.fullmatch(path.name)
            if match:
                found[int(match[1])] = path
        return dict(sorted(found.items()))

    def discard_kept_after(self, epoch: int) -> None:
        """Remove the checkpoints that are kept of later epochs: those will be done again."""
        for number, path in self.kept().items():
            if number > epoch:
                path.unlink(missing_ok=True)

    def rank_log(self, rank: int) -> Path:
        """Return the path of what worker ``rank`` prints."""
        return self.path / f"rank-{rank}.log"

    def existing_checkpoint(self, which: Literal["last", "best"]) -> Path:
        """Return the path of the checkpoint; raises RunFolderError when it does not exist."""
        wanted, other = (self.last, self.best) if which == "last" else (self.best, self.last)
        if wanted.is_file():
            return wanted
        there = f" (but {other})" if other.is_file() else ""
        raise RunFolderError(
            f"{self.path}: has no checkpoint {wanted.relative_to(self.path)}{there}; the run was "
            f"stopped before it wrote one: start it anew with `{program()} train "
            f"{word(self.experiment)}`, in the same folder with `--out {word(self.path)}`"
        )

    def discard_unless_begun(self) -> None:
        """Remove a folder in which no run has begun; its lock must be held."""
        if self._lock is None or _is_run(self.path):
            return
        with contextlib.suppress(OSError):  # what somebody else has put there stays
            for log in self.path.glob("rank-*.log"):
                log.unlink()
            self.last.parent.rmdir()
            (self.path / _LOCK).unlink()
            self.path.rmdir()

    def close(self) -> None:
        """Let others write into the folder. Closing twice is allowed."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _prepared(self) -> Self:
        self._lock = lock_folder(self.path)
        try:
            self.last.parent.mkdir(exist_ok=True)
        except OSError as error:
            self.close()
            raise _cannot_make(self.path, error) from None
        return self


def new_folder(name: str, parent: Path, started: datetime | None = None) -> Path:
    """Make ``<parent>/<time>-<name>``, with -2, -3 … appended when that exists.

    Raises RunFolderError when the folder cannot be made.
    """
    stem = f"{started or datetime.now():%Y%m%d-%H%M%S}-{_slug(name)}"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return next(parent / name for name in names if _made(parent / name))
    except OSError as error:
        raise _cannot_make(parent, error) from None


def make_empty(path: Path) -> None:
    """Make the folder exactly here. Raises RunFolderError unless it is new or empty."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not _is_empty(path):
            way = ""
            if _is_run(path):
                way = f"continue the run in it, with --resume {word(path)}, or "
            raise RunFolderError(
                f"{path}: is not empty, and a run never overwrites another; {way}choose another "
                "folder with --out"
            )
    except OSError as error:
        raise _cannot_make(path, error) from None


def lock_folder(folder: Path) -> int:
    """Take the folder's lock; return the descriptor whose closing gives it back.

    The lock belongs to the open file, so workers, started by exec, do not keep it. The lock file
    stays behind: removing it would let two processes lock two files of one name. Raises
    RunFolderError when another process holds the lock.
    """
    lock = folder / _LOCK
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunFolderError(
            f"{lock}: cannot be written: {error.strerror or error}; make the folder writable"
        ) from None
    if not _is_locked_now(descriptor):
        raise _in_use(folder, descriptor)
    # A pid that does not fit on a full disk is missing from a message, no more.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


@contextlib.contextmanager
def unchanging(path: Path) -> Iterator[None]:
    """Keep a run from being written into while its files are read and compared with each other.

    ``path`` is that of `RunFolder.open`. Any number of readers may do so at once, also where the
    folder cannot be written to. Raises RunFolderError when a coordinator is writing there.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a copy may lack the file; nobody writes into it then
            folder = _folder_of(path)
            # a pipe in its place would else be waited for
            descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, descriptor)
            if not _is_locked_now(descriptor, shared=True):
                raise _in_use(folder, os.dup(descriptor))
        yield


def _in_use(folder: Path, descriptor: int) -> RunFolderError:
    """Return the error that names whoever holds a lock; the descriptor is closed."""
    import psutil  # here, because its import takes 40 ms

    holder = os.read(descriptor, 20).decode(errors="replace").strip()
    os.close(descriptor)
    if holder.isdigit() and not psutil.pid_exists(int(holder)):  # readers leave no number
        return RunFolderError(
            f"{folder}: another process is reading this run, such as dptrain verify; wait for its "
            "end"
        )
    return RunFolderError(
        f"{folder}: process {holder or 'of unknown number'} is writing into this run; "
        f"wait for its end, or stop it with `kill {holder or 'PID'}`"
    )


def _is_locked_now(descriptor: int, *, shared: bool = False) -> bool:
    """Try to lock. True when locked, or when this system or file system knows no locks."""
    try:
        import fcntl  # here, because Windows lacks it
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _slug(model: str) -> str:
    """Return a name for a file: ``mlp:784-50-10`` becomes ``mlp-784-50-10``."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", model)[:_SLUG_LIMIT].strip("-._") or "model"


def _made(path: Path) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _is_empty(folder: Path) -> bool:
    """Tell whether nothing is there but what `create_at` itself makes before a run begins."""
    checkpoints = folder / _CHECKPOINTS
    return all(
        entry.name == _LOCK or (entry == checkpoints and not any(checkpoints.iterdir()))
        for entry in folder.iterdir()
    )


def _was_never_saved(folder: Path) -> bool:
    """Tell whether nothing is there but what a run leaves that was killed before it saved a step.

    The lock, in which a coordinator's pid stands, tells that a run has made the folder.
    """
    with contextlib.suppress(OSError):
        entries = [each for each in folder.iterdir() if each.name != _CHECKPOINTS]
        ours = {_LOCK, _EXPERIMENT, _METRICS, _BEGUN, _KEY}
        names = all(each.name in ours or _LEFT.fullmatch(each.name) for each in entries)
        plain = all(each.is_file() and not each.is_symlink() for each in entries)
        saved = any((folder / _CHECKPOINTS).glob("[!.]*"))
        return names and plain and not saved and bool(_PID.fullmatch((folder / _LOCK).read_bytes()))
    return False


def _is_run(folder: Path) -> bool:
    return (folder / _EXPERIMENT).is_file()


def _folder_of(path: Path) -> Path:
    """Return the run's folder, of which ``path`` may be a member such as its experiment.toml."""
    folder = path.parent if path.is_file() else path
    return folder.parent if folder.name == _CHECKPOINTS else folder


def _runs_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if _is_run(entry))


def _not_a_run(path: Path, folder: Path) -> RunFolderError:
    runs = _runs_in(folder)
    if runs:
        return RunFolderError(
            f"{path}: holds {len(runs)} run folders; name one, such as the newest, {runs[-1]}"
        )
    if path.exists():
        return RunFolderError(f"{path}: not a run folder: there is no {folder / _EXPERIMENT}")
    choices = {str(run) for parent in (path.parent, DEFAULT_PARENT) for run in _runs_in(parent)}
    near = suggestion(str(path), sorted(choices))
    return RunFolderError(
        f"{path}: there is no such run folder{near or f'; runs are in {DEFAULT_PARENT}/'}"
    )


def _cannot_make(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{path}: cannot make the run folder: {error.strerror or error} ({error.filename}); "
        f"choose another with --out"
    )
