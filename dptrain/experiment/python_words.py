"""Messages that name flags of the command line, rewritten for the Python API."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_type_hints

from dptrain.errors import DptrainError
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import choices_of

_FLAG = re.compile(r"--([a-z][a-z0-9-]*)(?: ([^\s,;()]*\w))?")
_CLAUSES = re.compile(r"(; |\n)")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")


def as_python(message: str) -> str:
    """Return a message with ``validation=0.1`` for ``--validation 0.1``.

    What stands in a clause with a whole command, such as ``dptrain train --resume logs/one``, is
    left as it is: that is for the command line.
    """
    parts = _CLAUSES.split(message)
    return "".join(part if "dptrain " in part else _FLAG.sub(_keyword, part) for part in parts)


@contextmanager
def in_python() -> Iterator[None]:
    """Rewrite the messages of dptrain's errors in this way."""
    try:
        yield
    except DptrainError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (as_python(error.args[0]), *error.args[1:])
        raise


def _keyword(match: re.Match[str]) -> str:
    key, value = match[1].replace("-", "_"), match[2]
    hints = get_type_hints(Experiment) | get_type_hints(Execution)
    if key not in (*hints, "out", "resume"):
        return match[0]
    if value is None:
        return f"{key}="
    if _NUMBER.fullmatch(value):
        return f"{key}={value}"
    stands = "/" in value or ":" in value or key == "resume"
    if value in choices_of(hints.get(key)) or stands:
        return f"{key}={value!r}"
    return f"{key}= {value}"
