"""A project of a few lines on which the real scripts work: no network, no dependencies."""

import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "dptrain"
version = "0.1"
optional-dependencies = { dev = [] }

[tool.ruff]
line-length = 100
"""

# Counts its uses in the file `builds`, and on request waits at a gate in the middle of one.
BACKEND = '''
import os, zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    with open("builds", "a") as builds:
        builds.write("built" + chr(10))
    if "GATE" in os.environ:
        gate = Path(os.environ["GATE"])
        gate.with_name("arrivals").write_text("!")
        with gate.with_name("permits").open(buffering=0, mode="rb") as permits:
            permits.read(1)
    name = "dptrain-0.1-py3-none-any.whl"
    info = "dptrain-0.1.dist-info/"
    with zipfile.ZipFile(Path(folder, name), "w") as wheel:
        wheel.writestr("dptrain.pth", os.getcwd())
        wheel.writestr(info + "METADATA", METADATA)
        wheel.writestr(info + "WHEEL", WHEEL)
        wheel.writestr(info + "RECORD", "")
    return name

METADATA = """Metadata-Version: 2.1
Name: dptrain
Version: 0.1
Provides-Extra: dev
"""
WHEEL = """Wheel-Version: 1.0
Root-Is-Purelib: true
Tag: py3-none-any
"""
'''

ECHO = """
import json, os, sys
print(json.dumps([os.getcwd(), *sys.argv[1:]]))
"""


class Gate:
    """Two named pipes that halt a build in its middle until the test lets it go on."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gate")
        self._arrivals, self._permits = (
            self._pipe(folder / name) for name in ("arrivals", "permits")
        )

    def wait(self) -> None:
        """Return when a build has come to the gate."""
        assert select.select([self._arrivals], [], [], 30)[0], "no build came to the gate"
        os.read(self._arrivals, 1)

    def open(self) -> None:
        """Let the build go on."""
        os.write(self._permits, b"!")

    def close(self) -> None:
        """Close the pipes."""
        os.close(self._arrivals)
        os.close(self._permits)

    @staticmethod
    def _pipe(path: Path) -> int:
        os.mkfifo(path)
        return os.open(path, os.O_RDWR)  # for both, so that neither end waits for the other


class Project:
    """A copy of ``scripts`` in a folder with a space in its name, around a package that echoes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a project"
        self.scripts = self.folder / "scripts"
        self.stamp = self.folder / ".venv/dptrain-setup"
        self._pip_link = self.folder / "only pip/pip"
        shutil.copytree(ROOT / "scripts", self.scripts)
        files = {
            "pyproject.toml": PYPROJECT,
            "backend.py": BACKEND,
            "dptrain/__init__.py": "",
            "dptrain/cli/__init__.py": "",
            "dptrain/cli/__main__.py": ECHO,
        }
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def make_venv(self) -> None:
        """Make .venv as by hand, with this Python's pip: installing another takes seconds."""
        venv = self.folder / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        spec = importlib.util.find_spec("pip")
        assert spec is not None
        assert spec.origin is not None
        self._pip_link.parent.mkdir()
        self._pip_link.symlink_to(Path(spec.origin).parent)
        (site_packages,) = venv.glob("lib/python*/site-packages")
        (site_packages / "pip.pth").write_text(str(self._pip_link.parent))

    @contextmanager
    def without_pip(self) -> Iterator[None]:
        """Make whatever needs pip fail."""
        away = self._pip_link.rename(self._pip_link.with_name("away"))
        try:
            yield
        finally:
            away.rename(self._pip_link)

    @contextmanager
    def edited(self, old: str, new: str) -> Iterator[None]:
        """Replace text in pyproject.toml."""
        path = self.folder / "pyproject.toml"
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new))
        try:
            yield
        finally:
            path.write_text(before)

    @property
    def builds(self) -> int:
        """How often pip has built the project."""
        path = self.folder / "builds"
        return len(path.read_text().splitlines()) if path.exists() else 0

    @contextmanager
    def started(
        self, script: str, *arguments: str, **environment: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a script beside the test; its process group is killed if the test fails."""
        with subprocess.Popen(
            [self.scripts / script, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder.parent,
            env={**os.environ, "PIP_NO_INDEX": "1", **environment},
            start_new_session=True,
        ) as process:
            try:
                yield process
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise

    def run(self, script: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Run a script to its end and return its exit code, stdout and stderr."""
        with self.started(script, *arguments, **environment) as process:
            stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr


def path_without_python(folder: Path) -> str:
    """Return a PATH with the commands that the scripts use, and a python3 that does not run."""
    folder.mkdir()
    for name in "awk", "cksum", "grep", "mkdir", "readlink", "rm", "sh", "tail":
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    shim = folder / "python3"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    return str(folder)
