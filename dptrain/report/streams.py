"""Standard streams as they are found: closed, full, hung up, or of few characters.

Nobody's training fails because it cannot be watched.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast


class Lenient:
    """A stream to show things on, or None; what cannot be written is left out.

    Whatever is not told here is the stream's own.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):  # the latter is of closed ones
                try:
                    self._stream.write(text)
                except UnicodeEncodeError as error:
                    known = text.encode(error.encoding, "replace").decode(error.encoding)
                    self._stream.write(known)
        return len(text)

    def flush(self) -> None:
        """Write what is left, if it can be."""
        if self._stream is not None:
            with contextlib.suppress(AttributeError, OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        """Return whether somebody may be watching."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (AttributeError, ValueError):  # an object that only writes; a closed one
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class WatchedStream:
    """A stream that remembers whether it could be written to; the rest is the stream's own.

    Attributes:
        failed: whether it could not.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed = False

    def write(self, text: str) -> int:
        """Write."""
        return self._noticed(lambda: self._stream.write(text)) or 0

    def flush(self) -> None:
        """Write what is left."""
        self._noticed(self._stream.flush)

    def _noticed(self, call: Callable[[], int | None]) -> int | None:
        try:
            return call()
        except OSError:
            self.failed = True
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lenient(stream: TextIO | None) -> TextIO:
    """Return a stream that shows what it can."""
    return stream if isinstance(stream, Lenient) else cast("TextIO", Lenient(stream))


def redraws(stream: TextIO) -> bool:
    """Return whether a line that is shown can be replaced: on terminals but the dumbest."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


@contextlib.contextmanager
def lenient_streams() -> Iterator[None]:
    """Have standard streams for the block, whatever the process was given.

    Closed ones are opened on nothing: their numbers would else be those of the next files, which
    whatever prints would write into. In what is printed, characters that the output's encoding
    has not are replaced. Messages never fail.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        for number in range(3):
            try:
                os.fstat(number)
            except OSError:
                stack.callback(os.close, os.open(os.devnull, os.O_RDWR))  # the lowest free number
                os.set_inheritable(number, True)
        nothing = stack.enter_context(open(os.devnull, "r+"))  # noqa: PTH123 - not a path
        sys.stdin, sys.stdout = sys.stdin or nothing, sys.stdout or nothing
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        sys.stdout = cast("TextIO", WatchedStream(sys.stdout))
        sys.stderr = lenient(sys.stderr)
        try:
            yield
        finally:
            errors = before[2]
            sys.stdin, sys.stdout, sys.stderr = before
            if errors is not None:
                give_up(errors)


def give_up(stream: TextIO) -> bool:
    """Return whether a stream cannot be written to; what it still holds is then given up.

    Python would else try once more at its end, and end with an error.
    """
    try:
        stream.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        return True
    except ValueError:  # it is closed
        return False
    return False
