"""Which arrays of an .npz file are inputs and targets, under any of the customary names."""

from pathlib import Path

from dptrain.errors import DataError, suggestion

ROLES = ("x_train", "t_train", "x_test", "t_test", "w_train")
_INPUTS = ("x", "images", "image", "inputs", "data", "features")
_TARGETS = ("t", "y", "labels", "label", "targets", "target")
_WEIGHTS = ("sample_weight", "sample_weights", "row_weights")
_HOLDS = (
    "an .npz holds x_train and t_train and, optionally, x_test and t_test, or the like, as X and "
    "y, images and labels, or train_images and train_labels; and perhaps sample_weight, of the "
    "training rows"
)
_MAKE = "np.savez({!r}, x_train=..., t_train=...) makes one"


def _roles() -> dict[str, str]:
    found = {"arr_0": "x_train", "arr_1": "t_train", "w_train": "w_train"}
    for name in _WEIGHTS:
        found[name] = found[f"{name}_train"] = found[f"train_{name}"] = "w_train"
    for letter, names in (("x", _INPUTS), ("t", _TARGETS)):
        for name in names:
            found[name] = f"{letter}_train"
            for part in ("train", "test"):
                found[f"{name}_{part}"] = found[f"{part}_{name}"] = f"{letter}_{part}"
    return found


_ROLE_OF = _roles()


def by_role(path: Path, names: list[str]) -> dict[str, str]:
    """Return the names of a file's arrays by what they are, one of ``ROLES``.

    Upper and lower case are the same.

    Raises:
        DataError: a name is unknown, two mean the same, or one is missing.
    """
    make = _MAKE.format(path.name)
    found: dict[str, str] = {}
    for name in names:
        role = _ROLE_OF.get(name.lower())
        if role is None:
            near = suggestion(name, [known for known in ROLES if known not in names])
            raise DataError(f"{path}: unknown array {name!r}: {_HOLDS}; {make}{near}")
        if role in found:
            raise DataError(f"{path}: {found[role]!r} and {name!r} both are {role}; keep one")
        found[role] = name
    for role in ROLES[:2]:
        if role not in found:
            raise DataError(
                f"{path}: has no array {role!r}, only {sorted(names)}: {_HOLDS}; {make}"
            )
    if ("x_test" in found) != ("t_test" in found):
        raise DataError(f"{path}: has one of x_test and t_test; give both or neither")
    return found


def inputs_of(path: Path, names: list[str]) -> str:
    """Return which array holds inputs to predict from: the only one, those of a test, or x.

    Raises:
        DataError: none can be told from the others.
    """
    roles = {_ROLE_OF.get(name.lower()): name for name in names}
    only = names[0] if len(names) == 1 else None
    found = only or roles.get("x_test") or roles.get("x_train")
    if found is None:
        raise DataError(
            f"{path}: which of {sorted(names)} are inputs? Call them x: np.savez({path.name!r}, "
            "x=...)"
        )
    return found
