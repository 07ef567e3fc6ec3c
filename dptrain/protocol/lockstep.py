"""Training in shared memory, as the coordinator plans it: spans of steps, one sent ahead.

The ranks carry out a plan without a message and report its end. Two plans are always with them, so
that nobody waits for the next one. A plan is long enough that its messages cost nothing, and short
enough that the coordinator hears of every step soon: about `PLAN_SECONDS`.
"""

from collections import deque

from dptrain.errors import ProtocolError
from dptrain.protocol.events import Committed, Heard, Instruction, StepSpan, TrainAsked
from dptrain.protocol.messages import Message, Progress

# A rank's word in shared memory is its step times this, plus how often it has arrived in the step.
# So it grows from step to step, and its quotient is how many steps the rank has completed.
ARRIVALS = 4096
PLAN_SECONDS = 0.2
# The coordinator reads the records of a plan while the ranks carry out at most two more; the ring
# of `exchange.segment` must hold three plans.
LONGEST_PLAN = 1024
AHEAD = 2


class Lockstep:
    """Plans one span of steps after the other.

    Attributes:
        step: the first step that is not known to be committed, or None.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._generation = 0
        self._next = self._end = 0
        self._length = 1
        self._plans: deque[StepSpan] = deque()
        self._reported = [0] * ranks
        self._since = 0.0
        self._arrivals = [0] * ranks

    @property
    def step(self) -> int | None:
        """The first step that is not known to be committed."""
        return self._plans[0].begin if self._plans else None

    def place(self, rank: int) -> int:
        """Return the step that a rank is in, counted from 1, by its word when it was seen last."""
        return max(self._arrivals[rank] // ARRIVALS, self._plans[0].begin) + 1

    def begin(self, generation: int, asked: TrainAsked) -> list[StepSpan]:
        """Begin to train; return the plans to send to everybody."""
        self._generation, self._next, self._end = generation, asked.begin, asked.end
        self._reported = [asked.begin] * self._ranks
        self._since = asked.now
        return self._plan_ahead()

    def _plan_ahead(self) -> list[StepSpan]:
        made = []
        while self._next < self._end and len(self._plans) < AHEAD:
            stop = min(self._next + self._length, self._end)
            made.append(StepSpan(self._next, stop))
            self._plans.append(made[-1])
            self._next = stop
        return made

    def halt(self) -> None:
        """Plan no more steps than are planned."""
        self._end = self._next

    def take(self, rank: int, heard: Heard[Message]) -> list[Instruction | StepSpan]:
        """Note that a rank has come to the end of a plan; the last rank's report commits it.

        Raises:
            ProtocolError: it is not what is due.
        """
        message = heard.message
        if not isinstance(message, Progress):
            raise ProtocolError(f"{type(message).__name__} where progress is reported")
        done = self._reported[rank]
        due = next((plan.end for plan in self._plans if plan.end > done), -1)
        if (message.generation, message.step) != (self._generation, due):
            raise ProtocolError(
                f"(generation, step) is {(message.generation, message.step)}, due was "
                f"{(self._generation, due)}"
            )
        self._reported[rank] = due
        if min(self._reported) < self._plans[0].end:
            return []
        plan = self._plans.popleft()
        self._fit_length(plan, heard.now)
        return [*self._plan_ahead(), Committed(plan.begin, plan.end)]

    def _fit_length(self, plan: StepSpan, now: float) -> None:
        """Choose the length of the next plan by the time of the last."""
        steps = plan.end - plan.begin
        seconds = max(now - self._since, 1e-9) / steps
        self._since = now
        # at most four times as long: the first steps are slow, and one measurement may be wrong
        self._length = max(1, min(int(PLAN_SECONDS / seconds), 4 * self._length, LONGEST_PLAN))

    def advanced(self, arrivals: list[int]) -> list[int]:
        """Return the ranks whose words have changed since the call before."""
        moved = [rank for rank, word in enumerate(arrivals) if word != self._arrivals[rank]]
        self._arrivals = arrivals
        return moved

    def awaited(self) -> list[int]:
        """Return the ranks that hold up the step."""
        if not self._plans:
            return []
        behind = min(self._arrivals)
        return [rank for rank, word in enumerate(self._arrivals) if word == behind]
