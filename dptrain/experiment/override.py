"""Combining settings: those of the command line override those of a file."""

from collections.abc import Mapping
from typing import Any

from dptrain.experiment.schema import LOSS_FIELDS, MODEL_FIELDS, RULE_FIELDS
from dptrain.own.origin import is_own, own_name

# What a setting that is given anew makes void among the earlier ones.
VOIDS: dict[str, tuple[str, ...]] = {
    "model": (
        *("layers", "input_shape", "freeze", "decayed"),
        *("model_args", "model_targets", "model_digest", "model_state"),
    ),
    "layers": MODEL_FIELDS,
    "optimizer": RULE_FIELDS,
    "loss": LOSS_FIELDS,
    "schedule": ("decay_rate", "decay_every"),
    "init": ("init_std",),
    "epochs": ("steps",),
    "steps": ("epochs",),
    "dataset": (
        "dataset_digest",
        "input_offsets",
        "label",
        "columns",
        "header",
        "task",
        "input_shape",
        "transpose",
    ),
    "transpose": ("dataset_digest",),
    "label": ("dataset_digest", "input_offsets"),
    "normalise": ("input_offsets",),
    "init_from": ("init_digest",),
    "columns": ("dataset_digest", "input_offsets", "input_shape"),
    "header": ("dataset_digest", "input_offsets", "label", "columns", "input_shape"),
    "task": ("dataset_digest",),
    "workers": ("exchange",),
}


def same(key: str, earlier: Any, later: Any) -> bool:
    """Return whether two values are the same; code may be named by another path to its file."""
    if key == "model" and isinstance(earlier, str) and is_own(earlier) and is_own(later):
        return own_name(earlier) == own_name(later)
    return bool(earlier == later)


def _is_default_decay(earlier: Mapping[str, Any]) -> bool:
    """Return whether the weight decay may be there only because of the optimizer."""
    from dptrain.optim.rules import RULES  # commands start workers before they import mathematics

    rule = RULES.get(earlier.get("optimizer", ""))
    return rule is not None and earlier.get("weight_decay") == rule.default_decay


def override(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return the earlier values, overridden by the later ones.

    A later value that differs also removes what belonged to the earlier one: another optimizer
    does not inherit the first one's coefficients.
    """
    merged = dict(earlier)
    for key, value in later.items():
        if not same(key, earlier.get(key), value):
            for void in VOIDS.get(key, ()):
                merged.pop(void, None)
            if key == "optimizer" and _is_default_decay(earlier):
                merged.pop("weight_decay", None)
    return merged | dict(later)
