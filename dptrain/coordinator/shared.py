"""A cluster whose gradients and weights stay in shared memory; the workers sum and update."""

import time
from collections.abc import Iterator

import numpy as np

from dptrain.coordinator.cluster import Cluster, ClusterSetup
from dptrain.errors import DptrainError
from dptrain.exchange.barrier import LINE_WORDS
from dptrain.exchange.collective import committed
from dptrain.exchange.engine import ShouldStop, StepsDone, TrainingState, is_logged
from dptrain.exchange.marks import split
from dptrain.exchange.memory import map_memory
from dptrain.exchange.segment import RING, Segment, segment, segment_bytes
from dptrain.protocol.events import Advanced, Broadcast, Committed, HaltAsked, Instruction
from dptrain.protocol.lockstep import ARRIVALS, Lockstep
from dptrain.protocol.messages import MAX_HEADER


class SharedCluster(Cluster):
    """Trains with worker processes over the shared exchange.

    Attributes:
        exchange: ``"shared"``.
    """

    exchange = "shared"

    def __init__(self, setting: ClusterSetup, state: TrainingState) -> None:
        """Bind and fill the memory; ``state`` is what the first step begins with.

        Raises:
            ResourceError: there is too little memory.
        """
        job, workers = setting.job, setting.workers
        memory = setting.crew.memory
        assert memory is not None
        memory.reserve(
            segment_bytes(job, workers),
            f"the network of {job.network.size:,} parameters with {job.shards} shards",
        )
        self._segment: Segment = segment(job, workers, map_memory(memory.descriptor))
        self._began = setting.first_step
        into = self._segment.states[self._began % 2]
        np.copyto(into.parameters, state.parameters)
        for slot, value in zip(into.slots, state.slots, strict=True):
            np.copyto(slot, value)
        for rank in range(workers):
            self._segment.words[rank * LINE_WORDS] = self._began * ARRIVALS
        self._plans = Lockstep(workers)
        super().__init__(setting, MAX_HEADER, 1, self._plans)

    def train(self, begin: int, end: int, stop: ShouldStop, every: int) -> Iterator[StepsDone]:
        """Carry out steps; they are heard of plan by plan."""
        self._ask_to_train(begin, end)
        drained, halted, since = begin, False, time.perf_counter()
        while self._plans.step is not None or self._results:
            if stop() and not halted:
                self._tell(HaltAsked())
                halted = True
            try:
                self._turn_for_result()
            except DptrainError:
                # only the dead no longer change what is committed
                self._recall()
                self._crew.end()
                done = committed(self._segment.arrivals(self.workers))
                yield from self._unmeasured(drained, done)
                raise
            for plan in self._results:
                assert isinstance(plan, Committed)
                now = time.perf_counter()
                measured = self._measured(plan, now - since, every)
                drained, since = plan.end, now
                yield from measured
            self._results.clear()

    def _turn_for_result(self) -> None:
        if not self._results:
            self._turn()

    def _measured(self, plan: Committed, seconds: float, every: int) -> list[StepsDone]:
        """Return what a plan came to; what its steps leave of its time is exchange."""
        places = np.arange(plan.begin, plan.end) % RING
        records = self._segment.records[places]
        if self._timeline is not None:
            self._timeline.add_steps(plan.begin, records)
        phases = np.diff(records, axis=2).mean(axis=1)
        found = []
        for begin, end in _between_logged(plan, every):
            part = phases[begin - plan.begin : end - plan.begin].sum(axis=0)
            compute, wait, update = split(part)
            whole = seconds * (end - begin) / (plan.end - plan.begin)
            rest = max(0.0, whole - compute - wait - update)
            loss = float(self._segment.step_losses[(end - 1) % RING])
            found.append(StepsDone(begin, end, loss, compute, rest, wait, update))
        return found

    def _unmeasured(self, begin: int, end: int) -> Iterator[StepsDone]:
        for step in range(begin, end):
            loss = float(self._segment.step_losses[step % RING])
            yield StepsDone(step, step + 1, loss, 0.0, 0.0, 0.0, 0.0)

    def state(self) -> TrainingState:
        """Return the weights and optimizer state after the last committed step.

        Also after a death in the middle of the next one, which writes elsewhere.
        """
        done = committed(self._segment.arrivals(self.workers))
        return self._segment.states[done % 2]

    def close(self) -> None:
        """Call the ranks back from their barriers, and end."""
        self._recall()
        super().close()

    def _recall(self) -> None:
        self._segment.words[self._segment.generation_word] += 1

    def _carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, Committed | Broadcast):
            self._results.append(instruction)

    def _look(self, now: float) -> None:
        self._tell(Advanced(self._segment.arrivals(self.workers), now))


def _between_logged(plan: Committed, every: int) -> Iterator[tuple[int, int]]:
    begin = plan.begin
    for end in range(plan.begin + 1, plan.end + 1):
        if end == plan.end or is_logged(end, every):
            yield begin, end
            begin = end
