"""What belongs to the whole process, while several threads of it may train at a time."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Restore = Callable[[], None]


class ProcessWide:
    """A setting of the process that runs change for their time.

    Runs in several threads overlap: whoever ends first must not put back what the others still
    need, and whoever ends last must put back what was there before the first.
    """

    def __init__(self, change: Callable[[], Restore]) -> None:
        """Bind.

        Args:
            change: makes the change, again by every run, and returns what undoes it.
        """
        self._change = change
        self._lock = threading.Lock()
        self._users = 0
        self._undo: list[Restore] = []
        os.register_at_fork(after_in_child=self._unlock)

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Hold the change for the block."""
        with self._lock:
            self._undo.append(self._change())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                while not self._users and self._undo:
                    self._undo.pop()()

    def _unlock(self) -> None:
        self._lock = threading.Lock()  # a thread that the child has not may have held it


class Turns:
    """A lock by which threads take turns with something that the process has once.

    Who has the turn may take it again.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._unlock)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _unlock(self) -> None:
        self._lock = threading.RLock()
