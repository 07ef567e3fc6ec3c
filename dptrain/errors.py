"""The mistakes dptrain tells its users about, each with the exit code of the command line.

Users' mistakes derive from ``ValueError``; whatever befalls a run derives from ``RuntimeError``.
Messages name the value, where it came from and what to do.
"""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from typing import Self

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_CHECK_FAILED = 3
EXIT_INCONCLUSIVE = 4
EXIT_NON_FINITE = 5
EXIT_WORKERS_LOST = 6
EXIT_SIGHUP = 129
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


class DptrainError(Exception):
    """The root of every error that dptrain raises on purpose.

    Its message may quote files and workers: what a terminal would obey in it is made visible.
    """

    exit_code = EXIT_ERROR

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(DptrainError, ValueError):
    """An option, key or argument that cannot be used as given."""

    exit_code = EXIT_USAGE


class ShapeError(UsageError):
    """Shapes of layers, data or arrays that do not fit each other."""


class DataError(DptrainError, ValueError):
    """A data set that is missing, damaged, or holds values that cannot be trained on."""


class CheckpointError(DptrainError, ValueError):
    """A checkpoint that is missing, damaged, or of another network."""


class RunFolderError(DptrainError, ValueError):
    """A run folder that is missing, incomplete, locked or cannot be written."""


class DiskFullError(RunFolderError):
    """There is no room for a file of a run."""


class ProtocolError(DptrainError, RuntimeError):
    """A message that the protocol does not allow: refused before anything is done with it."""


class ResourceError(DptrainError, RuntimeError):
    """The machine has too little of something that the run needs, such as memory."""


class UnsuitableError(ResourceError):
    """The machine would do with other settings of its environment."""

    exit_code = EXIT_USAGE


class NonFiniteError(DptrainError, RuntimeError):
    """Training produced an infinity or NaN."""

    exit_code = EXIT_NON_FINITE

    @classmethod
    def at(cls, step: int, where: str, layer: str, what: str) -> Self:
        """Return the error that names where the first infinity or NaN of a step stood."""
        place = {
            "weights": f"in the weights of layer {layer}",
            "output": f"in the output of layer {layer}",
        }.get(what, f"in the {layer}")
        return cls(f"step {step} has a loss that is not finite: {where}, first {place}")


class OwnCodeError(DptrainError, RuntimeError):
    """The user's own network raised.

    Attributes:
        what: which code raised, and what.
        traceback: from the user's code on.
    """

    def __init__(self, what: str, traceback: str) -> None:
        super().__init__(f"{what}\n{traceback.rstrip()}" if traceback else what)
        self.what = what
        self.traceback = traceback


class WorkersLostError(DptrainError, RuntimeError):
    """A worker died, raised or fell silent, and the run cannot go on without it."""

    exit_code = EXIT_WORKERS_LOST


class WorkerKilledError(WorkersLostError):
    """SIGKILL ended a worker: the system's or somebody's, for nothing in a run sends it.

    Attributes:
        how: which rank it was, without where the run stood.
    """

    def __init__(self, how: str, where: str) -> None:
        super().__init__(how + where)
        self.how = how


class Interrupted(DptrainError, RuntimeError):  # noqa: N818 - not an error: the user asked for it
    """The run was stopped by a signal after the checkpoint was written."""

    exit_code = EXIT_SIGINT


class DamageWarning(UserWarning):
    """Something on the disk is not what was written there; the run goes on without it."""


def printable(text: str) -> str:
    """Return a text with control characters, but tabs and line ends, written out as their codes."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the choice nearest to ``word``, or an empty string.

    Capitals, and ``_`` for ``-``, are no difference.
    """
    known = {_plain(choice): choice for choice in choices}
    near = difflib.get_close_matches(_plain(word), known, n=1, cutoff=0.6)
    return f"; did you mean {known[near[0]]!r}?" if near else ""


def _plain(word: str) -> str:
    return word.casefold().replace("_", "-")


def machine_limit(error: Exception) -> str:
    """Return what the machine has too little of, by an error, and the remedy; "" of others."""
    if isinstance(error, ResourceError | DiskFullError | WorkerKilledError):
        return str(error)
    if isinstance(error, MemoryError):
        what = f": {error}" if str(error) else ""
        return f"there is too little memory{what}; use less data, a smaller network or --batch-size"
    number = getattr(error, "errno", None)  # of OSError, and of ZeroMQ's own errors
    if number not in _REMEDIES:
        return ""
    where = f" ({name})" if (name := getattr(error, "filename", None)) else ""
    return f"{os.strerror(number).lower()}{where}; {_REMEDIES[number]}"


_REMEDIES = {
    errno.EMFILE: "raise the limit, such as with ulimit -n 1024, or use fewer --workers",
    errno.ENFILE: "end other programs, or use fewer --workers",
    errno.EAGAIN: "end other programs, raise the limit of processes (ulimit -u), or use fewer "
    "--workers",
    errno.ENOMEM: "use less data, a smaller network, or fewer --workers",
    errno.ENOSPC: "make room, or set TMPDIR to a folder with more",
    errno.EDQUOT: "make room, or set TMPDIR to a folder with more",
}
