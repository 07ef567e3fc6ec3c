"""The experiments under examples/ can be trained as they are."""

from pathlib import Path

import numpy as np
import pytest

from dptrain.cli.train import train
from tests.commands import result

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))

# All of MNIST takes these long to evaluate: seconds, and the deep one minutes.
FEW_IMAGES = {"augmentation", "conv", "deep-conv"}
# two forward passes a parameter: what is left of them with a row for each worker
SHORTER: dict[str, list[object]] = {
    "two-layer-numerical": ["--batch-size", 2, "--shards", 2],
}


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.stem for file in EXAMPLES])
def test_an_example(file: Path, tmp_path: Path) -> None:
    shorter = list(SHORTER.get(file.stem, []))
    if file.stem in FEW_IMAGES:
        images = np.random.default_rng(1).integers(0, 256, (120, 28, 28), np.uint8)
        np.savez(tmp_path / "few.npz", x_train=images, t_train=np.arange(120) % 10)
        shorter = ["--dataset", tmp_path / "few.npz", "--batch-size", 20]
    found = result("train", file, "--steps", 1, *shorter, "--out", tmp_path / "run")
    assert found["steps"] == 1


def test_help_and_readme_list_every_example() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    listed = " ".join((train.__doc__ or "").split()).split("NAME`: ")[1].split(".")[0]
    assert sorted(listed.split(", ")) == sorted(file.stem for file in EXAMPLES)
    assert [file.stem for file in EXAMPLES if f"| `{file.stem}` |" not in readme] == []
