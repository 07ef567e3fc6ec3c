"""The guards of the test suite, tried on tests that break every rule."""

import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import threadpoolctl

from tests import leaks

ROOT = Path(__file__).parents[1]

LEAKY = """
import os, subprocess, sys, tempfile, time

WAITS = [sys.executable, "-c", "import time; time.sleep(60)"]
kept = []

def test_leaves_a_child():
    kept.append(subprocess.Popen(WAITS))

def test_leaves_a_dead_child():
    kept.append(subprocess.Popen(["true"]))
    os.waitid(os.P_PID, kept[-1].pid, os.WEXITED | os.WNOWAIT)

def test_leaves_a_folder():
    tempfile.mkdtemp(prefix="dptrain-sockets-")

def test_cleans_up():
    with subprocess.Popen(["true"]), tempfile.TemporaryDirectory(prefix="dptrain-"):
        pass
"""

LEAVES_AN_ORPHAN = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'])"


def run_guarded(folder: Path, source: str) -> str:
    """Run tests of this source under tests/conftest.py and return what pytest prints."""
    (folder / "test_guarded.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "tests.conftest"]
    command += ["-p", "no:cacheprovider", "--rootdir", str(folder), "-rA", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_a_test_that_leaves_something_behind_fails(tmp_path: Path) -> None:
    report = run_guarded(tmp_path, LEAKY)

    for name in "test_leaves_a_child", "test_leaves_a_dead_child", "test_leaves_a_folder":
        assert f"ERROR at teardown of {name} __" in report
    assert "4 passed, 3 errors" in report
    assert "dptrain-sockets-" in report


def test_an_orphan_of_the_session_is_found_and_ended() -> None:
    session = "test-of-orphans"
    environment = {**os.environ, leaks.SESSION_VARIABLE: session}
    command = [sys.executable, "-c", LEAVES_AN_ORPHAN]
    silence, writer = os.pipe()  # the orphan waits for its input, which never comes
    reader, sink = os.pipe()  # and holds this one's sink open while it lives
    with os.fdopen(silence), os.fdopen(writer, "w"), os.fdopen(reader):
        subprocess.run(command, stdin=silence, stdout=sink, env=environment, check=True)
        os.close(sink)

        assert [line.split()[-1] for line in leaks.survivors(session, patience=0)] == ["input()"]
        assert select.select([reader], [], [], 10)[0], "it was found, but lives on"


def test_numpy_computes_in_one_thread() -> None:
    _ = np.ones((2, 2)) @ np.ones((2, 2))

    blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert blas
    assert all(pool["num_threads"] == 1 for pool in blas)


def test_folders_are_the_sessions_own(dptrain_cache: Path, temporary_folder: Path) -> None:
    assert os.environ["DPTRAIN_CACHE"] == str(dptrain_cache)
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(temporary_folder)
    assert len(str(temporary_folder)) < 40, "too long for a socket's address"
