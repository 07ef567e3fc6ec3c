"""The experiments under examples/ can be trained as they are."""

from pathlib import Path

import pytest

from tests.commands import result

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.stem for file in EXAMPLES])
def test_an_example(file: Path, tmp_path: Path) -> None:
    found = result("train", file, "--steps", 2, "--out", tmp_path / "run")
    assert found["steps"] == 2
