"""Data frames, whose columns have names: any object with ``columns`` that takes a list of them."""

from collections.abc import Sequence
from typing import Any

from dptrain.errors import DataError, suggestion


def columns_of(x: Any, columns: Sequence[str] | None) -> Any:
    """Return the named columns of a data frame, in this order; all else as it is.

    Raises:
        DataError: there is no column of a name, or several.
    """
    names = getattr(x, "columns", None)
    if names is None or columns is None:
        return x
    found = list(map(str, names))
    for name in columns:
        if found.count(name) != 1:
            wrong = "no column" if name not in found else "several columns"
            free = [each for each in found if each not in columns]
            raise DataError(
                f"the data frame has {wrong} {name!r}, which the run learnt from"
                f"{suggestion(name, free)}"
            )
    return x[[names[found.index(name)] for name in columns]]
