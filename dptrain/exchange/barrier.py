"""How ranks that share memory wait for each other.

Each rank has one word, written by itself alone, that says how far it has come. It only grows, so to
wait is to watch the others' words until none is behind.

Flags: just that, in three stages: look again at once for some microseconds, then between yields of
the processor, then between short sleeps. Where ranks outnumber the cores the first stage is left
out: whoever spins takes time from whoever is waited for. What a rank has written before its word
must be seen by all who see the word. x86 guarantees that of plain stores; other processors do not.

Events: whoever arrives also rings an eventfd of every other rank, and whoever waits sleeps in the
kernel, which orders memory on every processor. Its price is a system call for every other rank.
"""

import os
import platform
import select
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

BarrierKind = Literal["flags", "events"]

# A word's neighbour line is fetched along with it on many processors, so a rank has two lines.
LINE_WORDS = 16
SPINS = 1000  # about 50 µs
YIELDS = 300  # where nobody else wants the core, about 100 µs
FIRST_SLEEP = 20e-6
LONGEST_SLEEP = 1e-3
POLL_MS = 100


class Recalled(Exception):  # noqa: N818 - not an error: an order
    """The coordinator calls the ranks back, or is gone: leave the step as it is."""


class Barrier(Protocol):
    """Where ranks meet."""

    def arrive(self, value: int) -> None:
        """Tell the others that this rank has come to ``value``, more than ever before."""
        ...

    def wait(self, value: int) -> None:
        """Return once every rank has come to ``value``; raise `Recalled` if that is not to be."""
        ...


def suitable(machine: str = platform.machine()) -> BarrierKind:
    """Return the barrier that is safe on this processor."""
    return "flags" if machine.lower() in ("x86_64", "amd64", "i686", "i386") else "events"


class FlagBarrier:
    """See the module."""

    def __init__(
        self,
        words: "memoryview[int]",
        rank: int,
        ranks: int,
        cores: int,
        recalled: Callable[[], bool],
    ) -> None:
        """Watch the words of the other ranks.

        Args:
            words: the first of every `LINE_WORDS` is a rank's.
            rank: whose word is written.
            ranks: how many there are.
            cores: that these ranks can use.
            recalled: asked now and then while waiting.
        """
        self._words = words
        self._own = rank * LINE_WORDS
        self._others = [each * LINE_WORDS for each in range(ranks) if each != rank]
        self._spins = SPINS if ranks <= cores else 0
        self._recalled = recalled

    def arrive(self, value: int) -> None:
        """Write the word."""
        self._words[self._own] = value

    def wait(self, value: int) -> None:
        """Watch the words."""
        words = self._words
        for other in self._others:
            if words[other] < value:
                self._wait_for(other, value)

    def _wait_for(self, other: int, value: int) -> None:
        words = self._words
        for _ in range(self._spins):
            if words[other] >= value:
                return
        for _ in range(YIELDS):
            os.sched_yield()
            if words[other] >= value:
                return
        pause = FIRST_SLEEP
        while words[other] < value:
            if self._recalled():
                raise Recalled
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_SLEEP)


class EventBarrier:
    """See the module.

    A rank counts how often it was rung. Nobody can ring for the next meeting before all have rung
    for this one, so the count alone tells who has come.
    """

    def __init__(
        self,
        words: "memoryview[int]",
        rank: int,
        bells: Sequence[int],
        recalled: Callable[[], bool],
    ) -> None:
        """Listen for the other ranks.

        Args:
            words: the first of every `LINE_WORDS` is a rank's; the coordinator reads them.
            rank: whose word is written and whose bell is listened to.
            bells: the ranks' eventfds, non-blocking.
            recalled: asked now and then while waiting.
        """
        self._words = words
        self._own = rank * LINE_WORDS
        self._bell = bells[rank]
        self._others = [bell for each, bell in enumerate(bells) if each != rank]
        self._missing = 0
        self._recalled = recalled
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)

    def arrive(self, value: int) -> None:
        """Write the word and ring."""
        self._words[self._own] = value
        self._missing += len(self._others)
        for bell in self._others:
            os.eventfd_write(bell, 1)

    def wait(self, value: int) -> None:  # noqa: ARG002 - the rings say it
        """Sleep until everybody has rung."""
        while self._missing > 0:
            try:
                self._missing -= os.eventfd_read(self._bell)
            except BlockingIOError:
                if not self._poll.poll(POLL_MS) and self._recalled():
                    raise Recalled from None
