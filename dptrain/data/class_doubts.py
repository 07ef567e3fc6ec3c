"""Labels that are hardly classes of their own: missing values, and others in another spelling."""

from collections.abc import Iterator, Sequence

from dptrain.data.csv_header import cell_number

# As they are written for what is missing, by tables, spreadsheets, R and pandas; "none" may be a
# class, and "None" is what Python's str() makes of nothing.
_MISSING = {"", "?", "na", "n/a", "nan", "<na>", "null"}


def class_doubts(names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each name of a class that is doubtful, or like another."""
    known: dict[str | float, str] = {}
    for name in names:
        word = name.strip().casefold()
        if word in _MISSING or name == "None":
            yield (
                f"the label {name!r} is taken for a class; where it says that a value is missing, "
                "take its rows out"
            )
            continue
        value = cell_number(word)
        other = known.setdefault(word if value is None else value, name)
        if other != name:
            yield (
                f"the labels {other!r} and {name!r} are taken for two classes; where they are one, "
                "write it in one way"
            )
