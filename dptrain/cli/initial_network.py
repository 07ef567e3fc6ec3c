"""The network of an experiment that begins with saved weights and names none of its own."""

from collections.abc import Mapping
from typing import Any

from dptrain.errors import UsageError
from dptrain.experiment.schema import MODEL_FIELDS
from dptrain.invocation import word
from dptrain.own.origin import is_own

_NETWORK = ("model", "layers", "input_shape", "normalise", "normalise_targets", *MODEL_FIELDS)


def with_saved_network(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the network of ``init_from``, unless they name a network.

    Raises:
        RunFolderError, CheckpointError, DataError: there are no such weights.
        UsageError: it is a network of the user's own, whose code only they can name.
    """
    source = settings.get("init_from")
    if source is None or "model" in settings or "layers" in settings:
        return dict(settings)
    # here, because most commands begin with no saved weights
    from dptrain.coordinator.initial_state import saved_weights
    from dptrain.experiment.files import parse_toml

    saved = parse_toml(saved_weights(source).experiment, source)["experiment"]
    if is_own(saved["model"]):
        raise UsageError(
            f"init_from={source!r} is of a network of your own; name its code: "
            f"--model {word(saved['model'])}"
        )
    return {name: saved[name] for name in _NETWORK if name in saved} | dict(settings)
