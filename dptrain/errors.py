"""The errors that dptrain raises on purpose, each with the exit code of the command line.

Mistakes of the user are also ``ValueError``, failures of a run or of the machine ``RuntimeError``.
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
    """The base of every error that dptrain raises on purpose.

    Its message may quote files and workers: control characters in it are made visible.
    """

    exit_code = EXIT_ERROR

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(DptrainError, ValueError):
    """An option, key or argument that cannot be used as given."""

    exit_code = EXIT_USAGE


class ShapeError(UsageError):
    """Shapes of layers, data or arrays that do not match."""


class DataError(DptrainError, ValueError):
    """A data set that is missing, damaged, or holds values that cannot be trained on."""


class CheckpointError(DptrainError, ValueError):
    """A checkpoint that is missing, damaged, or of another network."""


class RunFolderError(DptrainError, ValueError):
    """A run folder that is missing, incomplete, locked or cannot be written."""


class DiskFullError(RunFolderError):
    """The disk is full: a file of a run could not be written."""


class ProtocolError(DptrainError, RuntimeError):
    """A message that the protocol does not allow. It is refused before anything is done with it."""


class FrameLengthError(ProtocolError):
    """A frame with other than the bytes that belong into it."""


class ResourceError(DptrainError, RuntimeError):
    """The machine has too little of something that the run needs, such as memory."""


class UnsuitableError(ResourceError):
    """The machine would do if its environment were set differently."""

    exit_code = EXIT_USAGE


class NonFiniteError(DptrainError, RuntimeError):
    """Training produced an infinity or NaN."""

    exit_code = EXIT_NON_FINITE

    @classmethod
    def at(cls, step: int, where: str, layer: str, what: str) -> Self:
        """Return the error that says where the first infinity or NaN of a step was found."""
        place = {
            "weights": f"in the weights of layer {layer}",
            "output": f"in the output of layer {layer}",
        }.get(what, f"in the {layer}")
        return cls(f"step {step} has a loss that is not finite: {where}, first {place}")


class OwnCodeError(DptrainError, RuntimeError):
    """The network that the user has written raised an exception.

    Attributes:
        what: which code raised, and which exception.
        traceback: the traceback, from the user's code on.
    """

    def __init__(self, what: str, traceback: str) -> None:
        super().__init__(f"{what}\n{traceback.rstrip()}" if traceback else what)
        self.what = what
        self.traceback = traceback


class WorkersLostError(DptrainError, RuntimeError):
    """A worker died, raised or fell silent, and the run cannot go on without it."""

    exit_code = EXIT_WORKERS_LOST


class WorkerKilledError(WorkersLostError):
    """A worker was killed by SIGKILL, which nothing in a run sends: by the system or by a user.

    Attributes:
        how: which rank it was, without the step.
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

    Case, and ``_`` for ``-``, make no difference.
    """
    known = {_plain(choice): choice for choice in choices}
    near = difflib.get_close_matches(_plain(word), known, n=1, cutoff=0.6)
    return f"; did you mean {known[near[0]]!r}?" if near else ""


def _plain(word: str) -> str:
    return word.casefold().replace("_", "-")


def machine_limit(error: Exception) -> str:
    """Return which resource has run out, and the remedy; "" for errors of another kind."""
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
