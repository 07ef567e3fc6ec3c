"""What bisect says of checkpoints it has read, not of the digests that their headers tell."""

import shutil
from pathlib import Path

import pytest

from tests.audit.runs import bisected, edit_checkpoint, epochs, flip_bit
from tests.sessions import write_dataset


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return epochs(write_dataset(folder / "small.npz"), folder / "one")


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_damaged_checkpoint_is_no_agreement(one: Path, tmp_path: Path, name: str) -> None:
    other = Path(shutil.copytree(one, tmp_path / "other"))
    assert bisected(one, other).same
    file = other / "checkpoints" / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for pair in ((one, other), (other, one)):
        found = bisected(*pair)
        assert not found.same
        assert not found.inconclusive
        (problem,) = found.records.damaged
        assert str(file) in problem


@pytest.mark.parametrize("name", ["last", "best"])
def test_every_checkpoint_of_a_moment_is_compared(one: Path, tmp_path: Path, name: str) -> None:
    other = Path(shutil.copytree(one, tmp_path / "other"))
    edit_checkpoint(other, name, lambda c: flip_bit(c.tensors["dense1.W"], 0, 0))
    for pair in ((one, other), (other, one)):
        found = bisected(*pair)
        assert found.records.first is not None
        assert found.records.first.tensors == ["dense1.W"]
