"""AdamW decays weights, as its readers expect; without any decay it would be Adam."""

from pathlib import Path
from typing import Any

import pytest

from dptrain.experiment.files import read_toml
from dptrain.experiment.override import override
from dptrain.report.banner import training_line
from tests.sessions import run, write_dataset


def digest(data: Path, out: Path, **settings: Any) -> str:
    return run({"dataset": str(data), "steps": 9} | settings, out, workers=1).digest


def test_adamw_decays_by_itself(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    adamw = digest(data, tmp_path / "0", optimizer="adamw")
    explicit = digest(data, tmp_path / "1", optimizer="adamw", weight_decay=0.01)
    none = digest(data, tmp_path / "2", optimizer="adamw", weight_decay=0.0)
    adam = digest(data, tmp_path / "3", optimizer="adam")
    assert adamw == explicit != none == adam
    recorded = read_toml(tmp_path / "0" / "experiment.toml")["experiment"]
    assert recorded["weight_decay"] == 0.01
    outcome = run({"dataset": str(data), "optimizer": "adamw", "steps": 1}, tmp_path / "told")
    assert "adamw lr 0.001, weight decay 0.01" in training_line(outcome.job)


@pytest.mark.parametrize(
    ("earlier", "later", "decay"),
    [
        ({"optimizer": "adamw", "weight_decay": 0.01}, "adam", None),
        ({"optimizer": "adam", "weight_decay": 0.0}, "adamw", None),
        ({"optimizer": "adam", "weight_decay": 0.1}, "adamw", 0.1),
        ({"optimizer": "adamw", "weight_decay": 0.0}, "adamw", 0.0),
        ({"weight_decay": 0.0}, "adamw", 0.0),
    ],
)
def test_another_optimizer_has_its_own_default(
    earlier: dict[str, Any], later: str, decay: float | None
) -> None:
    assert override(earlier, {"optimizer": later}).get("weight_decay") == decay
