"""``dptrain``: runs a verb, and says what went wrong."""

import os
import sys
from collections.abc import Sequence

# Read once, when NumPy loads: more BLAS threads would change the last bits of float32 products.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

from cyclopts import CycloptsError  # noqa: E402 - after the threads are set

from dptrain.cli.refusals import refusal  # noqa: E402
from dptrain.cli.verbs import program  # noqa: E402
from dptrain.errors import EXIT_ERROR, EXIT_SIGINT, EXIT_USAGE, DptrainError  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, by default that of the command line; return the process's exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = program(given)(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _complain(refusal(error), EXIT_USAGE)
    except DptrainError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", EXIT_SIGINT)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    print(f"dptrain: {message}", file=sys.stderr)  # noqa: T201 - the command line's own output
    return code


if __name__ == "__main__":
    sys.exit(main())
