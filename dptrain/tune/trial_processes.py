"""The processes that carry out trials, side by side, and what they say."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from dptrain.errors import EXIT_WORKERS_LOST
from dptrain.launch.environment import worker_environment
from dptrain.machine.cores import can_pin
from dptrain.tune.messages import (
    Ended,
    FromLane,
    GoOn,
    Order,
    StopTrial,
    ToLane,
    decode_from_lane,
    encode,
)

# How long lanes may take to end by themselves when the search is broken off.
GRACE = 5.0
TICK = 0.1


class TrialProcess:
    """One process. Its end without a word ends its trial, not the search.

    Attributes:
        number: of the trial that it carries out, or None.
        log: where its standard error goes.
    """

    def __init__(self, log: Path, inherited: Sequence[int]) -> None:
        self.number: int | None = None
        self.log = log
        self._rest = b""
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dptrain.tune.trial_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,  # Ctrl-C is for the search
                pass_fds=inherited,
                env=worker_environment(),
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input = self._process.stdin
        self.descriptor = self._process.stdout.fileno()

    def pin(self, cores: set[int]) -> None:
        """Bind the process, and what it will start, to some cores."""
        os.sched_setaffinity(self._process.pid, cores)

    def tell(self, message: ToLane) -> None:
        """Send a message; a process that is dead already is noticed by `hear`."""
        with contextlib.suppress(BrokenPipeError):
            self._input.write(encode(message) + b"\n")
            self._input.flush()

    def hear(self) -> list[FromLane] | None:
        """Return what the process has said; None when it is dead. Call when there is something."""
        data = os.read(self.descriptor, 1 << 16)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [decode_from_lane(line) for line in lines]

    def how(self) -> str:
        """Return how the process ended."""
        code = self._process.wait()
        if code >= 0:
            return f"its process ended with exit code {code}; see {self.log}"
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"

    def dismiss(self) -> None:
        """Let the process end: at once where it is idle, else after the present step."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()

    def release(self, patience: float) -> None:
        """Wait for the end of a dismissed process, kill it where that takes too long, reap it."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            with contextlib.suppress(OSError):
                if not self.log.stat().st_size:
                    self.log.unlink()


class TrialProcesses:
    """Processes, started when first needed; `close`, or the end of a ``with``, ends them."""

    def __init__(
        self, count: int, folder: Path, *, cores: int = 0, inherited: Sequence[int] = ()
    ) -> None:
        """Prepare.

        Args:
            count: of lanes.
            folder: for their logs.
            cores: to how many each is bound; 0 for none.
            inherited: descriptors that stay open as long as any of the lanes lives.
        """
        self._lanes: list[TrialProcess | None] = [None] * count
        self._folder = folder
        self._cores = cores
        self._inherited = inherited
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_free(self) -> bool:
        """Whether a lane has nothing to do."""
        return any(lane is None or lane.number is None for lane in self._lanes)

    def start(self, order: Order) -> None:
        """Give a trial to a free lane."""
        place = next(i for i, each in enumerate(self._lanes) if each is None or not each.number)
        lane = self._lanes[place] or self._new(place)
        lane.number = order.number
        lane.tell(order)

    def decide(self, number: int, *, goes_on: bool) -> None:
        """Tell a trial whether it goes on after its evaluation."""
        self._tell(number, GoOn(number) if goes_on else StopTrial(number))

    def stop(self, number: int) -> None:
        """Ask a trial to end after the present step."""
        self._tell(number, StopTrial(number))

    def hear(self) -> list[FromLane]:
        """Return what has been said within a tenth of a second."""
        found: list[FromLane] = []
        for key, _ in self._selector.select(TICK):
            place: int = key.data
            lane = self._lanes[place]
            assert lane is not None
            messages = lane.hear()
            if messages is None:
                found += self._bury(place, lane)
                continue
            for message in messages:
                if isinstance(message, Ended):
                    lane.number = None
                found.append(message)
        return found

    def close(self) -> None:
        """End all processes; those that are still training have a few seconds for a checkpoint."""
        lanes = [lane for lane in self._lanes if lane is not None]
        self._lanes = []
        for lane in lanes:
            lane.dismiss()
        for lane in lanes:
            lane.release(GRACE)
        self._selector.close()

    def _new(self, place: int) -> TrialProcess:
        lane = TrialProcess(self._folder / f"lane-{place + 1}.log", self._inherited)
        self._lanes[place] = lane
        self._selector.register(lane.descriptor, selectors.EVENT_READ, place)
        if self._cores and can_pin():
            usable = sorted(os.sched_getaffinity(0))
            first = place * self._cores
            lane.pin({usable[(first + i) % len(usable)] for i in range(self._cores)})
        return lane

    def _bury(self, place: int, lane: TrialProcess) -> list[FromLane]:
        self._selector.unregister(lane.descriptor)
        self._lanes[place] = None
        how, number = lane.how(), lane.number
        lane.dismiss()
        lane.release(0.0)
        return [] if number is None else [Ended(number, 0.0, False, EXIT_WORKERS_LOST, how)]

    def _tell(self, number: int, message: ToLane) -> None:
        for lane in self._lanes:
            if lane is not None and lane.number == number:  # else it has just died
                lane.tell(message)
