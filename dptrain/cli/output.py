"""What verbs print for programs, and beside their results."""

import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dptrain.data.rescaling import ScaleWarning
from dptrain.errors import printable


def note(text: str) -> None:
    """Print on standard error what was assumed, or is doubtful."""
    print(f"dptrain: note: {printable(text)}", file=sys.stderr)  # noqa: T201 - the command line's own output


@contextmanager
def scale_notes() -> Iterator[None]:
    """Print doubts about the scale of inputs as notes, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScaleWarning)
        yield
    for each in caught:
        if each.category is not ScaleWarning:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    for text in dict.fromkeys(str(e.message) for e in caught if e.category is ScaleWarning):
        note(text)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output; what is not finite becomes null."""
    sys.stdout.write(json.dumps(_finite(values), allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
