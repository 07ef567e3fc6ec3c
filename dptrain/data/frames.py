"""Data frames, whose columns have names: any object with ``columns`` that takes a list of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from dptrain.data.csv_header import TableForm
from dptrain.errors import DataError, suggestion


class Names(NamedTuple):
    """What the data frames of inputs and targets call their columns.

    Attributes:
        inputs: the columns to learn from; None where they have no names.
        outputs: the columns of targets, where there are several.
        label: the name of a single one; empty where it has none.
    """

    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...] | None
    label: str

    @classmethod
    def of(cls, x: Any, t: Any) -> Self:
        """Return the names in inputs and targets; raises as `names_of` and `check_rows`."""
        check_rows(x, t)
        outputs = names_of(t) or (getattr(t, "name", None),)
        label = outputs[0] if len(outputs) == 1 and isinstance(outputs[0], str) else ""
        return cls(names_of(x), outputs if len(outputs) > 1 else None, label)

    @property
    def form(self) -> TableForm | None:
        """The same, as for a table with a header."""
        return None if self.inputs is None else TableForm(True, self.inputs, self.label)

    def matched(self, x: Any, t: Any) -> tuple[Any, Any]:
        """Return others with these columns; raises as `columns_of` and `check_rows`."""
        check_rows(x, t)
        return columns_of(x, self.inputs), columns_of(t, self.outputs)


def names_of(x: Any) -> tuple[str, ...] | None:
    """Return the names of a data frame's columns; None of all else, or where they are not text.

    Raises:
        DataError: there are several columns of a name.
    """
    names = getattr(x, "columns", None)
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    for name in names:
        if list(names).count(name) > 1:
            raise DataError(f"the data frame has several columns {name!r}; rename one")
    return tuple(names)


def check_rows(x: Any, t: Any) -> None:
    """Raise DataError where rows of inputs and targets have the same names in another order."""
    here, there = _index(x), _index(t)
    if here is None or there is None or here == there:
        return
    if len(here) == len(there) and set(here) == set(there):
        raise DataError(
            "inputs and targets have the same index in another order, so that their rows do not "
            "belong together; give t.loc[x.index], or if the first rows do belong together, and so "
            "on, both with .reset_index(drop=True)"
        )


def _index(x: Any) -> list[Any] | None:
    index = getattr(x, "index", None)  # of a list it is a method
    return None if index is None or callable(index) else list(index)


def columns_of(x: Any, columns: Sequence[str] | None) -> Any:
    """Return the named columns of a data frame, in this order; all else as it is.

    A single row of a frame, whose index has the names, is put in order as well.

    Raises:
        DataError: there is no column of a name, or several.
    """
    names = getattr(x, "columns", None)
    if columns is None:
        return x
    if names is None:
        names = _index(x)
        if names is None or not set(names) & set(columns):
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
