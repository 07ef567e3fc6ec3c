"""Workers as processes of this machine: started by exec, watched by pidfd, never left behind.

Each worker is a session of its own, so that Ctrl-C in the terminal reaches the coordinator alone.
It gets its orders as one line of JSON through a pipe on its standard input, the key included, so
that the key is in no argument list, environment or file; behind the line comes what the user has
told of a network of their own. The pipe stays open as long as the
coordinator lives; its end tells the worker that it is an orphan.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dptrain.exchange.barrier import BarrierKind, suitable
from dptrain.exchange.memory import SharedMemory
from dptrain.experiment.execution import Execution, exchange_of
from dptrain.launch.descriptors import allow_descriptors, demand_eventfd
from dptrain.launch.environment import worker_environment
from dptrain.launch.fork_server import ForkedWorker, ForkServer
from dptrain.launch.processes import allow_processes

GRACE = 2.0
# what a worker process runs, as arguments of Python
WORKER = ("-m", "dptrain.worker")
# the same, or who forks processes that do
Program = Sequence[str] | ForkServer


@dataclass(frozen=True)
class Orders:
    """What a launched worker must know to join.

    Attributes:
        connect: the coordinator's endpoint.
        key: that of the run.
        max_frame: bytes of the longest frame that the coordinator will send.
        pin: whether to stay on one core.
        origin: `dptrain.own.origin.Origin.message` of a network of the user's own, or empty. It
            travels through the inherited pipe only: what it says is run.
    """

    connect: str
    key: bytes
    max_frame: int
    pin: bool
    origin: bytes = b""


class LocalWorker:
    """A worker process: started at once, so that it can import what it needs, and ordered later.

    Attributes:
        rank: of the worker.
        log: where its standard output and error go.
        pidfd: readable once the process has ended; -1 where the system has or allows no pidfds.
    """

    def __init__(self, rank: int, log: Path, inherited: "Inheritance", program: Program) -> None:
        self.rank = rank
        self.log = log
        self._inherited = inherited
        self._process = _process(log, inherited.descriptors, program)
        self.pidfd = pidfd_of(self._process.pid)

    def order(self, orders: Orders) -> None:
        """Tell the worker whom to join."""
        plain = {
            "connect": orders.connect,
            "key": orders.key.hex(),
            "rank": self.rank,
            "parent": os.getpid(),
            "max_frame": orders.max_frame,
            "pin": orders.pin,
            "memory": self._inherited.memory.descriptor if self._inherited.memory else -1,
            "bells": self._inherited.bells,
            "origin": len(orders.origin),
        }
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already; how() will tell
            self._process.stdin.write(json.dumps(plain).encode() + b"\n" + orders.origin)
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ended(self) -> bool:
        """Return whether the process has ended; it is not reaped, so its pid stays its own."""
        try:
            return self._state(os.WEXITED | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def stopped(self) -> bool:
        """Return whether the process is stopped, as by SIGSTOP."""
        try:
            return self._state(os.WSTOPPED | os.WNOHANG) is not None
        except ChildProcessError:
            return False

    def how(self) -> tuple[str, bool]:
        """Return how the process ended, and whether SIGKILL ended it.

        In words that end a sentence which begins with its rank.
        """
        try:
            found = self._state(os.WEXITED)
        except ChildProcessError:
            return f"(pid {self.pid}) ended, and nothing tells how (SIGCHLD is ignored?)", False
        if found is None or found.si_code == os.CLD_EXITED:
            code = 0 if found is None else found.si_status
            return f"(pid {self.pid}) ended with exit code {code}", False
        name = signal.Signals(found.si_status).name
        killed = name == "SIGKILL"
        hint = f" ({_suspect()}?)" if killed else ""
        return f"(pid {self.pid}) was killed by {name}{hint}", killed

    def _state(self, flags: int) -> os.waitid_result | None:
        """Return what has happened to the process, which is not reaped.

        Raises ChildProcessError once it has ended where the system reaps children at once, as it
        does for processes that were started with SIGCHLD ignored, or somebody else has done so.
        """
        return os.waitid(os.P_PID, self.pid, flags | os.WNOWAIT)

    def signal_group(self, number: int) -> None:
        """Send a signal to the worker and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def release(self) -> None:
        """Kill what the worker may have left of its group, and reap it."""
        self.signal_group(signal.SIGKILL)
        self._process.wait()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()


def _suspect() -> str:
    """Return what may have killed a process that nobody has."""
    _, limit = resource.getrlimit(resource.RLIMIT_CPU)
    by_time = "" if limit == resource.RLIM_INFINITY else f", or of the {limit} s of ulimit -t"
    return f"out of memory{by_time}"


def pidfd_of(pid: int) -> int:
    """Return a descriptor that is readable once a child has ended; -1 where there is none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # of an old system, or forbidden
        return -1


def _process(
    log: Path, descriptors: Sequence[int], program: Program
) -> subprocess.Popen[bytes] | ForkedWorker:
    """Start a process; arguments as for `ForkServer.fork`."""
    if isinstance(program, ForkServer):
        forked = program.fork(log, descriptors)
        if forked is not None:
            return forked
        program = program.program  # whose log will tell what is wrong with it
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-P", *program],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=descriptors,
            env=worker_environment(),
        )


class Inheritance:
    """What all workers of a run share from their birth on: file descriptors, until `close`.

    Attributes:
        memory: shared, of no size yet; None where the exchange needs none.
        bells: one eventfd for each rank, where ranks wait for events.
    """

    def __init__(self, ranks: int, barrier: BarrierKind | None) -> None:
        """Open what the shared exchange needs with this barrier; nothing for None."""
        self.memory = SharedMemory() if barrier is not None else None
        self.bells: list[int] = []
        if barrier == "events":
            flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
            self.bells += (os.eventfd(0, flags) for _ in range(ranks))

    @property
    def descriptors(self) -> list[int]:
        """What a child process must keep open."""
        return [*self.bells, *([self.memory.descriptor] if self.memory else [])]

    def close(self) -> None:
        """Give up the descriptors."""
        bells, self.bells = self.bells, []
        for bell in bells:
            os.close(bell)
        if self.memory is not None:
            self.memory.close()


class Crew:
    """The workers that one run has launched.

    Attributes:
        workers: by rank, from 0.
        memory: that they share, if any.
    """

    def __init__(
        self,
        logs: Sequence[Path],
        barrier: BarrierKind | None = None,
        program: Program = WORKER,
    ) -> None:
        """Start a worker for every log file; with shared memory where a barrier is given."""
        if logs:
            allow_descriptors(len(logs))
            demand_eventfd()
        self.workers: list[LocalWorker] = []
        self._inheritance = Inheritance(len(logs), barrier)
        self.memory = self._inheritance.memory
        try:
            self.workers += (
                LocalWorker(rank, log, self._inheritance, program) for rank, log in enumerate(logs)
            )
        except BaseException:
            self.end(0.0)
            raise

    @classmethod
    def of(
        cls, execution: Execution, log: Callable[[int], Path], program: Program = WORKER
    ) -> Self:
        """Start the workers of a settled execution, those left out that join by themselves.

        Args:
            execution: settled.
            log: the log file of a rank.
            program: what the processes run.
        """
        exchange = exchange_of(execution)
        count = execution.world_size - execution.join if exchange.workers else 0
        allow_processes(count)
        barrier = (execution.barrier or suitable()) if exchange.memory else None
        return cls([log(rank) for rank in range(count)], barrier, program)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(0.0)

    def end(self, grace: float = GRACE) -> None:
        """Wait until the workers have ended, for ``grace`` seconds at most, then kill them."""
        workers, self.workers = self.workers, []
        _await_end(workers, grace)
        for worker in workers:
            worker.release()
        self._inheritance.close()


def _await_end(workers: Sequence[LocalWorker], seconds: float) -> None:
    """Return once the workers have all ended, and after some seconds whatever they do."""
    deadline = time.monotonic() + seconds
    while time.monotonic() <= deadline and not all(worker.ended() for worker in workers):
        time.sleep(0.002)
