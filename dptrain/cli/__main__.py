"""``dptrain``: the verbs, and what their errors look like."""

import os
import sys
from collections.abc import Sequence

# Read once, when NumPy loads: more BLAS threads would change the last bits of float32 products.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError  # noqa: E402 - after the threads are set
from cyclopts.config import Env  # noqa: E402

from dptrain import __version__  # noqa: E402
from dptrain.errors import EXIT_ERROR, EXIT_SIGINT, EXIT_USAGE, DptrainError  # noqa: E402

VERBS = (
    "train",
    "verify",
    "bisect",
    "evaluate",
    "predict",
    "compress",
    "convert",
    "plot",
    "inspect",
    "scaling",
    "gradcheck",
    "tune",
    "doctor",
    "worker",
)

app = App(
    name="dptrain",
    help="Data-parallel training on plain CPUs: the same weights, to the last bit, for any number "
    "of workers.",
    version=__version__,
    config=Env("DPTRAIN_", command=False),
    help_format="markdown",
    default_parameter=Parameter(show_env_var=False, show_default=False, negative=()),
    result_action="return_value",
)
for _verb in VERBS:
    app.command(f"dptrain.cli.{_verb}:{_verb}", name=_verb)
app.register_install_completion_command()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, by default that of the command line; return the process's exit code."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _complain(_misnamed(error) or str(error), EXIT_USAGE)
    except DptrainError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", EXIT_SIGINT)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    return code if isinstance(code, int) else 0


def _misnamed(error: CycloptsError) -> str:
    """Return what to say of a flag that has another name in other libraries."""
    if not isinstance(error, UnknownOptionError):
        return ""
    from dptrain.experiment.synonyms import meant  # here, because most commands need it not

    word = error.token.keyword or error.token.value
    hint = meant(word, "--")
    return f"unknown option {word}; {hint}" if hint else ""


def _complain(message: str, code: int) -> int:
    print(f"dptrain: {message}", file=sys.stderr)  # noqa: T201 - the command line's own output
    return code


if __name__ == "__main__":
    sys.exit(main())
