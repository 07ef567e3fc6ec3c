"""What a test can leave behind, asked so cheaply that it can be asked around every test."""

import contextlib
import os
import tempfile
from pathlib import Path

import psutil

SESSION_VARIABLE = "DPTRAIN_TEST_SESSION"


def children() -> set[psutil.Process]:
    """Return this process's children, dead ones that nobody waited for among them.

    One system call when there are none: psutil would read the whole process table.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    return set(psutil.Process().children())


def files() -> set[Path]:
    """Return what lies in the temporary folder and in shared memory under dptrain's name."""
    folders = Path(tempfile.gettempdir()), Path("/dev/shm")  # noqa: S108 - only listed
    return {path for folder in folders for path in folder.glob("dptrain-*")}


def survivors(session: str, patience: float) -> list[str]:
    """Return the command lines of processes started by a test session that outlived their parents.

    Such orphans are nobody's children, but they inherited ``SESSION_VARIABLE``. Waits up to
    ``patience`` seconds for them to notice that they are alone, and kills those that do not.
    """
    found = [process for process in psutil.process_iter() if _is_of(process, session)]
    _, alive = psutil.wait_procs(found, timeout=patience)
    lines = [describe(process) for process in alive]
    end(alive)
    return lines


def describe(process: psutil.Process) -> str:
    """Return a line that tells which process this is."""
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        words = ""
    return f"{process.pid} {words or '(ended, but nobody waited for it)'}"


def end(processes: list[psutil.Process]) -> None:
    """Kill processes with their descendants, and reap those that are this process's children."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for descendant in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    descendant.kill()
            process.kill()
            if process.ppid() == os.getpid():
                process.wait()


def _is_of(process: psutil.Process, session: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(SESSION_VARIABLE) == session
    except (psutil.Error, OSError):
        return False
