"""What else is installed or lies about does not stand in the place of Python's own library."""

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

import dptrain
from dptrain.launch.environment import worker_environment

FIRST = "import sys, pathlib, dptrain; print(pathlib.__file__); print(dptrain.__file__)"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages with dptrain and a backport in it that no modern Python can import."""
    folder = (tmp_path / "site-packages").resolve()
    (folder / "dptrain").mkdir(parents=True)
    (folder / "dptrain" / "__init__.py").touch()
    for module in ("pathlib", "typing"):
        (folder / f"{module}.py").write_text("from collections import Sequence\n")
    monkeypatch.setattr(dptrain, "__file__", str(folder / "dptrain" / "__init__.py"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder


def found() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FIRST],
        env=worker_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["all", "user"])
def test_an_installed_package_needs_no_path(
    kind: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "all":
        monkeypatch.setattr(site, "getsitepackages", lambda: [str(installed)])
    else:
        monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
        monkeypatch.setattr(site, "getusersitepackages", lambda: str(installed))
    assert "PYTHONPATH" not in worker_environment()
    assert found()[0].startswith(str(Path(os.__file__).parent))


def test_a_package_beside_the_others_comes_last(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}")
    assert worker_environment()["PYTHONPATH"] == f"{tmp_path}{os.pathsep}{installed}"
    monkeypatch.setenv("PYTHONPATH", str(installed))
    assert worker_environment()["PYTHONPATH"] == str(installed)


def test_this_very_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert found()[1] == dptrain.__file__
