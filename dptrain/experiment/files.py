"""Experiments as TOML: one table for what decides the numbers, one for what decides the speed."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from dptrain.errors import UsageError, suggestion
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.experiment.toml_limits import MOST_BYTES, check_toml

TABLES = ("experiment", "execution")

HEADER = """\
# [experiment] decides the numbers, [execution] only the speed.
# Train it again with: dptrain train THIS_FILE
"""


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """Return the two tables of a file, not yet validated.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has other tables or keys.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the experiment {path}: {reason}") from None
    return parse_toml(text, str(path))


def parse_toml(text: str, origin: str) -> dict[str, dict[str, Any]]:
    """Return the two tables of TOML text; ``origin`` names it in messages."""
    check_toml(text, origin)
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # of an integer of thousands of digits, no TOMLDecodeError
        raise UsageError(f"{origin} is not valid TOML: {error}") from None
    for key, value in document.items():
        if key not in TABLES:
            fields = [*TABLES, *Experiment.__struct_fields__, *Execution.__struct_fields__]
            where = (
                " put it under [experiment]"
                if key in Experiment.__struct_fields__
                else " put it under [execution]"
                if key in Execution.__struct_fields__
                else suggestion(key, fields)
            )
            raise UsageError(f"{origin}: unknown key {key!r};{where.removeprefix(';')}")
        if not isinstance(value, dict):
            raise UsageError(f"{origin}: {key} must be a table, [{key}]")
    return {table: document.get(table, {}) for table in TABLES}


def to_toml(experiment: Experiment, execution: Execution | None = None) -> str:
    """Return the TOML text of an experiment, and of an execution where one is given."""
    document = {"experiment": plain(experiment)}
    if execution is not None:
        document["execution"] = plain(execution)
    return HEADER + "\n" + tomli_w.dumps(document)


def plain(schema: Experiment | Execution) -> dict[str, Any]:
    """Return the fields that are set, as plain data."""
    values: Mapping[str, Any] = msgspec.to_builtins(schema)
    return {key: value for key, value in values.items() if value is not None}
