"""What a run was: its experiment and its execution, from its last checkpoint."""

from typing import Any

from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.experiment.files import parse_toml
from dptrain.runfolder import RunFolder


def recorded(folder: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a run's experiment and execution, as its last checkpoint recorded them."""
    checkpoint = load_checkpoint(folder.existing_checkpoint("last"))
    tables = parse_toml(checkpoint.experiment, str(folder.last))
    return tables["experiment"], tables["execution"]
