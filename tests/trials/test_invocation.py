"""Messages tell the command that the user has, not one that is not on the PATH."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dptrain.invocation import COMMAND, install, program
from tests.commands import dptrain

ROOT = Path(__file__).parents[2]
PYTHON = shlex.quote(sys.executable)


@pytest.mark.parametrize(
    ("typed", "path", "told"),
    [
        ("/there/.venv/bin/dptrain", "/there/.venv/bin", "dptrain"),
        ("/there/.venv/bin/dptrain", "/elsewhere", "/there/.venv/bin/dptrain"),
        (".venv/bin/dptrain", "/elsewhere", ".venv/bin/dptrain"),
        ("/an environment/bin/dptrain", "/elsewhere", "'/an environment/bin/dptrain'"),
        ("/there/site-packages/dptrain/__main__.py", "/there/.venv/bin", "dptrain"),
        ("notebook.py", "/there/.venv/bin", "dptrain"),
        ("/there/site-packages/dptrain/__main__.py", "/elsewhere", f"{PYTHON} -m dptrain"),
        ("notebook.py", "/elsewhere", f"{PYTHON} -m dptrain"),
    ],
)
def test_the_program(
    typed: str, path: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("there/.venv/bin", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "dptrain").touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(COMMAND, raising=False)
    monkeypatch.setenv("PATH", path.replace("/there", f"{tmp_path}/there"))
    monkeypatch.setattr(sys, "argv", [typed.replace("/there", f"{tmp_path}/there"), "train"])
    assert program() == told.replace("/there", f"{tmp_path}/there")


def test_a_script_tells_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, "scripts/dptrain")
    assert program() == "scripts/dptrain"
    refused = dptrain("evaluate", "nowhere")
    assert refused.returncode == 1  # the variable is not a setting
    assert COMMAND in (ROOT / "scripts/dptrain").read_text(encoding="utf-8")
    assert COMMAND in (ROOT / "scripts/train").read_text(encoding="utf-8")


def test_python_can_be_told_to_run_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dptrain", "evaluate", "nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("dptrain: nowhere: there is no such run folder")


def test_extras_are_installed_for_this_python() -> None:
    words = shlex.split(install("tune"))
    assert words == [sys.executable, "-m", "pip", "install", "dptrain[tune]"]
