"""What every test gets: one BLAS thread, folders of the session's own, and a check for leaks."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests import leaks

if TYPE_CHECKING:
    from dptrain.launch.local import Program

# Read once, when NumPy loads, so they stand before anything that imports it. Float32 products
# differ in their last bits between one and two BLAS threads; see docs/architecture.md. Set rather
# than defaulted: another number in the developer's shell would fail the comparisons of bits.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

# Whoever started the tests in the background, as nohup or a shell does, has these ignored; the
# processes of tests would inherit that, and heed it as they should.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(
            _number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )

# Machines differ in speed, and CI must not fail on an example that nobody can repeat.
hypothesis.settings.register_profile("dptrain", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("dptrain")


@pytest.fixture(scope="session", autouse=True)
def dptrain_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One data cache a session: MNIST is unpacked once, and the developer's own is left alone.

    Removed at the end, since pytest would keep the hundreds of megabytes of three sessions.
    """
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPTRAIN_CACHE", str(folder))
        # drawing takes longer than most runs of tests; those of the curves ask for them
        patch.setenv("DPTRAIN_CURVES", "false")
        # thousands of processes would compile everything anew, each for a quarter of a second
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(dptrain_cache: Path) -> Iterator[Path]:
    """A temporary folder that no other process on the machine writes to, so that leaks can be told.

    Not one of pytest's, whose long paths do not fit a Unix socket's address. It comes after
    ``dptrain_cache``, so that pytest's own folder stays where people look for it.
    """
    with (
        tempfile.TemporaryDirectory(prefix="dpt-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def no_survivors(temporary_folder: Path) -> Iterator[None]:
    """Fail the session if a process that it started, however indirectly, outlives it."""
    session = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(leaks.SESSION_VARIABLE, session)
        yield
    survivors = leaks.survivors(session, patience=3.0)
    if survivors:
        pytest.fail("processes outlived the tests:\n" + "\n".join(survivors), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def forked_verbs(no_survivors: None) -> Iterator[None]:
    """Fork what the tests run on the command line, if any of them does."""
    commands = sys.modules.get("tests.commands")
    with commands.forking() if commands else contextlib.nullcontext():
        yield


@pytest.fixture(scope="module")
def workers() -> Iterator["Program"]:
    """Workers for the tests of a file that do not ask how one is started: forked, for a tenth."""
    from dptrain.launch.fork_server import fork_server
    from dptrain.launch.local import WORKER  # here, because it imports what reads the variables

    with fork_server(WORKER) as found:
        yield found


@pytest.fixture(autouse=True)
def no_leaks(no_survivors: None) -> Iterator[None]:
    """Fail a test that leaves child processes, temporary files or shared memory behind."""
    processes_before, files_before = leaks.children(), leaks.files()
    yield
    processes = sorted(leaks.children() - processes_before, key=lambda process: process.pid)
    files = sorted(leaks.files() - files_before)
    if processes or files:
        lines = [*map(leaks.describe, processes), *map(str, files)]
        leaks.end(processes)  # or the next test would work beside them
        pytest.fail("the test left behind:\n" + "\n".join(lines), pytrace=False)
