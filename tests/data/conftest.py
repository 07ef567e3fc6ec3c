"""Fixtures for data sets."""

from pathlib import Path

import pytest

from dptrain.data import prepare


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the cache at a folder of the test's own, not yet there, and return it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DPTRAIN_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def mnist_folder(dptrain_cache: Path) -> Path:
    """Return the embedded MNIST, prepared in float32 in the session's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPTRAIN_CACHE", str(dptrain_cache))
        return prepare("mnist", dtype="float32")
