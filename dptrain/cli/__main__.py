"""``dptrain``: runs one verb; what its errors look like.

Imports next to nothing, so that Ctrl-C is understood almost from the first moment on.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from dptrain.errors import (
    EXIT_ERROR,
    EXIT_SIGINT,
    EXIT_USAGE,
    DamageWarning,
    DptrainError,
    machine_limit,
    printable,
)
from dptrain.report.streams import give_up, lenient_streams

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

# Read once, when NumPy loads: more BLAS threads would change the last bits of float32 products.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, by default that of the command line; return the process's exit code."""
    with lenient_streams(), warnings.catch_warnings():
        warnings.showwarning = _show
        return _carried_out(arguments)


def _carried_out(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    program, refusal = _imported()
    from cyclopts import CycloptsError

    try:
        code = program(given)(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _complain(refusal(error), EXIT_USAGE)
    except DptrainError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", EXIT_SIGINT)
    except OSError as error:
        lost = give_up(sys.stdout) or getattr(sys.stdout, "failed", False)
        if isinstance(error, BrokenPipeError):  # whoever read the output has had enough
            return EXIT_ERROR
        if not lost:
            return _limited(error)
        words = os.strerror(error.errno or 0).lower()
        return _complain(f"cannot write to standard output: {words}", EXIT_ERROR)
    except Exception as error:  # noqa: BLE001 - what is not a limit of the machine is raised again
        return _limited(error)
    return code if isinstance(code, int) else 0


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show dptrain's own warnings as its other messages, and others as Python does."""
    if issubclass(category, DamageWarning):
        text = f"dptrain: warning: {message}\n"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    (file or sys.stderr).write(text)


def _limited(error: Exception) -> int:
    """Say what of the machine is used up; raise the error again if it is something else."""
    words = machine_limit(error)
    if not words:
        raise error
    return _complain(words, EXIT_ERROR)


def _imported() -> "tuple[Callable[[Sequence[str]], App], Callable[[CycloptsError], str]]":
    """Import what is needed; meanwhile Ctrl-C ends the process: imports may not pass it on."""
    mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if mine:
        signal.signal(signal.SIGINT, _end)
    try:
        from dptrain.cli.refusals import refusal
        from dptrain.cli.verbs import program
    finally:
        if mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    return program, refusal


def _end(_number: int, _frame: FrameType | None) -> None:
    _complain("interrupted", EXIT_SIGINT)
    os._exit(EXIT_SIGINT)


def _complain(message: str, code: int) -> int:
    print(f"dptrain: {printable(message)}", file=sys.stderr)  # noqa: T201 - the command line's own output
    return code


if __name__ == "__main__":
    sys.exit(main())
