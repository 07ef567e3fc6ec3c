"""The scripts, run for real on a project without dependencies, in a folder with a space."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts.project import ROOT, Gate, Project, path_without_python

SCRIPTS = sorted((ROOT / "scripts").iterdir())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after ``scripts/setup dev``; tests leave it as they found it."""
    project = Project(tmp_path_factory.mktemp("installed"))
    project.make_venv()
    status, stdout, messages = project.run("setup", "dev")
    assert (status, stdout) == (0, "")
    assert "installing dptrain" in messages
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.make_venv()
    return project


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with contextlib.closing(Gate(tmp_path)) as gate:
        yield gate


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda path: path.name)
def test_scripts_are_executable_and_posix(script: Path) -> None:
    shell = shutil.which("dash") or "sh"

    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/sh\n# ")
    assert subprocess.run([shell, "-n", script], check=False).returncode == 0


def test_setup_has_nothing_to_do_twice(installed: Project) -> None:
    with installed.without_pip():
        assert installed.run("setup") == (0, "", "")
        assert installed.run("setup", "core") == (0, "", "")
        with installed.edited("line-length = 100", "line-length = 99"):
            assert installed.run("setup") == (0, "", "")
    assert installed.builds == 1


def test_arguments_and_current_folder_pass_through(installed: Project) -> None:
    arguments = ["", "two words", "*", '"$HOME"', "--out", "a\nb"]
    here = installed.folder.parent
    (here / "json.py").write_text("raise SystemExit('a file of the user was imported')")

    for script, words in ("dptrain", arguments), ("train", ["train", *arguments]):
        status, stdout, stderr = installed.run(script, *arguments)
        assert (status, stderr) == (0, "")
        assert json.loads(stdout) == [str(here), *words]


@pytest.mark.parametrize("script", ["dptrain", "train"])
def test_scripts_work_through_a_link(installed: Project, tmp_path: Path, script: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(installed.scripts / script)

    output = subprocess.run([link, "doctor"], capture_output=True, check=True, text=True).stdout
    assert json.loads(output)[-1] == "doctor"


def test_a_failure_of_pip_is_told_and_harms_nothing(installed: Project) -> None:
    with installed.edited("requires = []", 'requires = ["absent-thing"]'):
        status, stdout, stderr = installed.run("train")

    assert (status, stdout) == (1, "")
    assert "No matching distribution found for absent-thing" in stderr
    assert "offline, or behind a proxy?" in stderr
    assert str(installed.folder / ".venv/setup.log") in stderr
    assert installed.run("setup") == (0, "", "")


def test_without_python_a_message_says_what_is_needed(tmp_path: Path) -> None:
    project = Project(tmp_path)

    status, stdout, stderr = project.run("train", PATH=path_without_python(tmp_path / "bin"))
    assert (status, stdout) == (1, "")
    assert "dptrain needs Python 3.11 or newer" in stderr
    assert not (project.folder / ".venv").exists()


def test_a_python_without_venv_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError")  # as some systems package Python
    path = path_without_python(tmp_path / "bin")
    (tmp_path / "bin/python3.11").symlink_to(sys.executable)

    status, _, stderr = Project(tmp_path).run("setup", PATH=path, PYTHONPATH=str(tmp_path))
    assert status == 1
    assert re.search(r"python3\.11 is 3\.\d+\.\d+, which lacks venv .*install python3", stderr)


def test_a_copied_project_does_not_use_the_originals_venv(
    installed: Project, tmp_path: Path
) -> None:
    copy = Project(tmp_path)
    shutil.copytree(installed.folder / ".venv", copy.folder / ".venv", symlinks=True)

    status, _, stderr = copy.run("setup", PATH=path_without_python(tmp_path / "bin"))
    assert status == 1
    assert "dptrain needs Python" in stderr, "it must want to make .venv anew"


def test_an_installation_cut_short_is_not_trusted(
    project: Project, gate: Gate, tmp_path: Path
) -> None:
    with project.started("setup", "core", GATE=gate.path) as setup:
        gate.wait()
        os.killpg(setup.pid, signal.SIGKILL)

    status, _, stderr = project.run("setup", "core", PATH=path_without_python(tmp_path / "bin"))
    assert status == 1
    assert "dptrain needs Python" in stderr, "it must want to make .venv anew"


def test_two_setups_at_once_install_once(project: Project, gate: Gate) -> None:
    with project.started("setup", "core", GATE=gate.path) as first:
        gate.wait()
        with project.started("setup", "core") as second:
            assert second.stderr is not None
            assert "waiting for another setup" in second.stderr.readline()
            gate.open()
    assert (first.returncode, second.returncode) == (0, 0)
    assert project.builds == 1


def test_check_runs_all_checks_even_if_each_fails(installed: Project) -> None:
    status, stdout, _ = installed.run("check")

    assert status == 1
    for name in "format", "lint", "types", "layers":
        assert f"{name:8} FAILED" in stdout
    assert installed.run("check", "--fxi")[0] == 2


def test_test_with_arguments_runs_pytest_alone(installed: Project) -> None:
    status, stdout, stderr = installed.run("test", "-k", "idx")

    assert (status, stdout) == (1, "")
    assert "No module named pytest" in stderr


def test_test_without_arguments_checks_first(installed: Project) -> None:
    status, stdout, stderr = installed.run("test")

    assert status == 1
    assert "types    FAILED" in stdout
    assert "No module named pytest" in stderr
    assert stderr.endswith("a check failed, see above the tests\n")
