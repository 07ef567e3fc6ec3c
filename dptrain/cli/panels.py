"""The panels that ``--help`` shows the settings of an experiment in."""

from collections.abc import Iterable
from typing import Any

from cyclopts import Group

_MODEL, _DATA, _TRAINING, _OPTIMIZER, _OVERFITTING, _EXECUTION, _OUTPUT = (
    Group(title, sort_key=place)
    for place, title in enumerate(
        (
            "Model",
            "Data",
            "Training",
            "Optimizer",
            "Against overfitting",
            "Execution: only the speed",
            "Run folder and output",
        ),
        start=1,  # what is a verb's own stands above
    )
)
OUTPUT = _OUTPUT

# The setting that a panel begins with: those that follow in the schema are of the same panel.
_FIRST = {
    "model": _MODEL,
    "dropout": _OVERFITTING,
    "init": _MODEL,
    "loss": _TRAINING,
    "dataset": _DATA,
    "augment_shift": _OVERFITTING,
    "batch_size": _TRAINING,
    "patience": _OVERFITTING,
    "optimizer": _OPTIMIZER,
    "weight_decay": _OVERFITTING,
    "clip_norm": _OPTIMIZER,
    "seed": _TRAINING,
    "workers": _EXECUTION,
}


def panels(keys: Iterable[str]) -> dict[str, Group]:
    """Return the panel of each setting of a schema."""
    found: dict[str, Group] = {}
    panel = _MODEL
    for key in keys:
        panel = _FIRST.get(key, panel)
        found[key] = panel
    return found


def told_default(description: str, default: Any) -> str:
    """Return a setting's description with its default, if it has one of its own."""
    if default is None or default is False:  # a flag that is not there
        return description
    shown = f"{default:g}" if isinstance(default, float) else default
    return f"{description} [default: {shown}]"
