"""``dptrain``: runs one verb; what its errors look like.

Imports next to nothing, so that Ctrl-C is understood almost from the first moment on.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

from dptrain.errors import EXIT_ERROR, EXIT_SIGINT, EXIT_USAGE, DptrainError, machine_limit
from dptrain.report.streams import give_up, lenient_streams

if TYPE_CHECKING:
    from cyclopts import App

# Read once, when NumPy loads: more BLAS threads would change the last bits of float32 products.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, by default that of the command line; return the process's exit code."""
    with lenient_streams():
        return _carried_out(sys.argv[1:] if arguments is None else list(arguments))


def _carried_out(given: Sequence[str]) -> int:
    app = _program(given)
    from cyclopts import CycloptsError

    from dptrain.cli.refusals import refusal

    try:
        code = app(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _complain(_misnamed(error) or refusal(error), EXIT_USAGE)
    except DptrainError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", EXIT_SIGINT)
    except OSError as error:
        if not give_up(sys.stdout):
            return _limited(error)
        if isinstance(error, BrokenPipeError):  # whoever read the output has had enough
            return EXIT_ERROR
        words = os.strerror(error.errno or 0).lower()
        return _complain(f"cannot write to standard output: {words}", EXIT_ERROR)
    except Exception as error:  # noqa: BLE001 - what is no limit of the machine is raised again
        return _limited(error)
    return code if isinstance(code, int) else 0


def _misnamed(error: Exception) -> str:
    """Return what to say of a flag that has another name in other libraries."""
    from cyclopts import UnknownOptionError

    if not isinstance(error, UnknownOptionError):
        return ""
    from dptrain.experiment.synonyms import meant  # here, because most commands need it not

    word = error.token.keyword or error.token.value
    hint = meant(word, "--")
    return f"unknown option {word}; {hint}" if hint else ""


def _limited(error: Exception) -> int:
    """Say what of the machine is used up; raise the error again if it is something else."""
    words = machine_limit(error)
    if not words:
        raise error
    return _complain(words, EXIT_ERROR)


def _program(given: Sequence[str]) -> "App":
    """Import the verbs; meanwhile Ctrl-C ends the process, for imports may not pass it on."""
    mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if mine:
        signal.signal(signal.SIGINT, _end)
    try:
        from dptrain.cli.verbs import program

        return program(given)
    finally:
        if mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    _complain("interrupted", EXIT_SIGINT)
    os._exit(EXIT_SIGINT)


def _complain(message: str, code: int) -> int:
    print(f"dptrain: {message}", file=sys.stderr)  # noqa: T201 - the command line's own output
    return code


if __name__ == "__main__":
    sys.exit(main())
