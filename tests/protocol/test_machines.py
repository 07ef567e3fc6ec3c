"""Both state machines, wired together without a socket, in any order of delivery."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dptrain.arithmetic.shards import assign, present_shards
from dptrain.arithmetic.tree import owned_additions, roots, tree_sum
from dptrain.errors import NonFiniteError, UsageError, WorkersLostError
from dptrain.protocol import events, worker
from dptrain.protocol.admission import Terms
from dptrain.protocol.coordinator import CoordinatorMachine
from dptrain.protocol.lockstep import LONGEST_PLAN, Lockstep
from dptrain.protocol.messages import (
    VERSION,
    Evaluated,
    Failed,
    Gradient,
    Hello,
    Message,
    NonFinite,
    Plan,
    Progress,
    Ready,
    Rows,
    Stop,
    Table,
    Weights,
)
from dptrain.protocol.star_progress import Collecting

KEY = b"k" * 32
TABLES = 2
BUCKETS = 2


MARKS = [0.0, 1.0, 2.0, 2.0, 3.0, 3.0]


def terms(
    world_size: int, shards: int, *, launched: int | None = None, exchange: str = "star"
) -> Terms:
    return Terms(
        world_size=world_size,
        launched=world_size if launched is None else launched,
        key=KEY,
        job={"model": "m"},
        data="/data",
        parameters=100,
        buckets=BUCKETS,
        tables=TABLES,
        shards=shards,
        exchange=exchange,
        first_step=0,
        fingerprint="f",
        timeout=10.0,
        expected=0.0,
        logs=tuple(f"rank-{rank}.log" for rank in range(world_size)),
    )


def coordinator(agreed: Terms) -> CoordinatorMachine:
    """Return a coordinator that counts as the exchange has it."""
    training: Lockstep | Collecting = Lockstep(agreed.world_size)
    if agreed.exchange == "star":
        bounds = assign(agreed.shards, agreed.world_size)
        training = Collecting(bounds, agreed.buckets, agreed.tables)
    return CoordinatorMachine(agreed, training, 0.0)


def loss_of(step: int, shard: int) -> float:
    return 0.1 * (shard + 1) / (step + 3)


class Run:
    """A coordinator, workers, and the messages under way between them."""

    def __init__(
        self,
        world_size: int,
        shards: int,
        rows: Callable[[int], int],
        exchange: str = "star",
    ) -> None:
        self.machine = coordinator(terms(world_size, shards, exchange=exchange))
        self.ran: list[list[tuple[int, int]]] = [[] for _ in range(world_size)]
        self.now = 0.0
        self.shards, self.rows = shards, rows
        self.up: list[deque[Message]] = [deque() for _ in range(world_size)]
        self.down: list[deque[Message]] = [deque() for _ in range(world_size)]
        self.results: list[Any] = []
        self.workers = [
            worker.WorkerMachine(KEY, Hello(VERSION, bytes([i]) * 32, i, i, "h"), "f", 0.0)
            for i in range(world_size)
        ]
        for i, each in enumerate(self.workers):
            self.at_worker(i, each.start())

    def at_worker(self, i: int, instructions: list[Any]) -> None:
        for each in instructions:
            match each:
                case worker.Send(message):
                    self.up[i].append(message)
                case worker.Build(welcome):
                    shares = welcome.exchange == "shared"
                    built = worker.Attached(100, 0) if shares else worker.Built(100, BUCKETS)
                    self.at_worker(i, self.workers[i].handle(built))
                case worker.Compute(generation, step, first, last):
                    self.compute(i, generation, step, first, last)
                case worker.RunPlan(plan):
                    self.ran[i].append((plan.begin, plan.end))
                    self.at_worker(i, self.workers[i].handle(worker.Ran(plan)))
                case worker.ComputeScore(request):
                    pieces = range(request.first, request.last)
                    answer = Evaluated(
                        request.request, [float(p) for p in pieces], list(pieces), 0.0, 0.0
                    )
                    self.up[i].append(answer)
                case worker.Exit(reason, expected):
                    assert expected, reason

    def compute(self, i: int, generation: int, step: int, first: int, last: int) -> None:
        leaves = present_shards(self.rows(step), self.shards)
        losses = {shard: loss_of(step, shard) for shard in range(first, min(last, leaves))}
        for into, other, _ in owned_additions(leaves, first, last):
            losses[into] += losses[other]
        own = [losses[root] for root in roots(leaves, first, last)]
        for bucket in range(BUCKETS):
            self.up[i].append(Gradient(generation, step, bucket, own, MARKS))

    def at_coordinator(self, instructions: list[Any]) -> None:
        for each in instructions:
            match each:
                case events.Send(peer, message):
                    self.down[peer[0]].append(message)
                case events.Broadcast():
                    if self.machine.terms.exchange == "star":
                        self.send_weights(0)
                case events.Reduce(step, bucket):
                    for queue in self.down:
                        queue.append(Weights(1, step + 1, bucket))
                case events.Commit() | events.Committed() | events.Scored():
                    self.results.append(each)
                case events.End(error):
                    raise error

    def send_weights(self, step: int) -> None:
        for queue in self.down:
            queue.extend(Weights(1, step, bucket) for bucket in range(BUCKETS))

    def deliver(self, choose: Callable[[int], int]) -> None:
        """Deliver messages, first in first out on each connection, until there are none."""
        while waiting := [q for q in (*self.up, *self.down) if q]:
            queue = waiting[choose(len(waiting))]
            message = queue.popleft()
            if any(queue is each for each in self.up):
                i = next(i for i, each in enumerate(self.up) if each is queue)
                self.now += 0.001
                heard = events.Heard(bytes([i]), message, self.now, b"c" * 32)
                self.at_coordinator(self.machine.handle(heard))
            else:
                i = next(i for i, each in enumerate(self.down) if each is queue)
                self.at_worker(i, self.workers[i].handle(worker.Heard(message)))


@settings(max_examples=80)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 12), st.data())
def test_any_order_of_delivery_gives_the_same_losses(
    world_size: int, shards: int, batch: int, data: st.DataObject
) -> None:
    shards = max(shards, world_size)

    def rows(step: int) -> int:
        return batch if step != 2 else max(1, batch // 3)

    def choose(count: int) -> int:
        return data.draw(st.integers(0, count - 1))

    run = Run(world_size, shards, rows)
    run.deliver(choose)
    assert run.machine.state is events.CoordinatorState.IDLE
    run.at_coordinator(run.machine.handle(events.TrainAsked(0, 3, rows, 0.0)))
    run.deliver(choose)
    expected = [
        tree_sum([loss_of(step, shard) for shard in range(present_shards(rows(step), shards))])
        for step in range(3)
    ]
    assert [(commit.step, commit.loss) for commit in run.results] == list(enumerate(expected))
    run.results.clear()
    run.at_coordinator(run.machine.handle(events.EvaluationAsked("train", 0, 7, 0.0)))
    run.deliver(choose)
    (scored,) = run.results
    assert scored.losses == [float(p) for p in range(7)]
    assert scored.correct == list(range(7))
    run.at_coordinator(run.machine.handle(events.StopAsked("over")))
    run.deliver(choose)
    assert all(each.state is worker.WorkerState.OVER for each in run.workers)


@settings(max_examples=80)
@given(st.integers(1, 4), st.integers(1, 2000), st.integers(0, 300), st.data())
def test_plans_cover_every_step_once_whatever_the_order_of_delivery(
    world_size: int, steps: int, halt_after: int, data: st.DataObject
) -> None:
    run = Run(world_size, 4, lambda _: 8, "shared")
    run.deliver(lambda count: data.draw(st.integers(0, count - 1)))
    run.at_coordinator(run.machine.handle(events.TrainAsked(0, steps, lambda _: 8, 0.0)))
    random = data.draw(st.randoms(use_true_random=False))
    delivered = 0

    def choose(count: int) -> int:
        nonlocal delivered
        delivered += 1
        if delivered == halt_after:
            run.at_coordinator(run.machine.handle(events.HaltAsked()))
        return random.randrange(count)

    run.deliver(choose)
    assert run.machine.state is events.CoordinatorState.IDLE
    spans = [(each.begin, each.end) for each in run.results]
    assert all(ran == spans for ran in run.ran)
    assert all(1 <= end - begin <= LONGEST_PLAN for begin, end in spans)
    assert [begin for begin, _ in spans] == [0, *(end for _, end in spans[:-1])]
    done = spans[-1][1]
    assert done == steps or 0 < halt_after <= delivered
    run.results.clear()
    # and the same ranks go on from there
    run.at_coordinator(run.machine.handle(events.TrainAsked(done, done + 3, lambda _: 8, 0.0)))
    run.deliver(choose)
    assert run.results[-1].end == done + 3


def ready_run(world_size: int = 2, exchange: str = "star") -> Run:
    run = Run(world_size, 4, lambda _: 8, exchange)
    run.deliver(lambda _: 0)
    return run


@pytest.mark.parametrize(
    "message",
    [Progress(1, 4), Progress(2, 1), Progress(1, 0), Gradient(1, 0, 0, [0.5], MARKS)],
    ids=["step", "generation", "again", "gradient"],
)
def test_progress_out_of_turn_ends_the_run(message: Message) -> None:
    run = ready_run(exchange="shared")
    run.at_coordinator(run.machine.handle(events.TrainAsked(0, 5, lambda _: 8, 0.0)))
    with pytest.raises(WorkersLostError, match=r"rank 1 broke the protocol.*in step 1"):
        heard(run, 1, message)


def plans_of(run: Run) -> Sequence[events.StepSpan]:
    assert isinstance(run.machine.training, Lockstep)
    return run.machine.training._plans


def test_two_plans_are_with_the_ranks_until_the_last() -> None:
    run = ready_run(1, "shared")

    def count(instructions: list[Any]) -> int:
        return sum(
            isinstance(each, events.Send) and isinstance(each.message, Plan)
            for each in instructions
        )

    now = 0.0
    handed_out = [count(run.machine.handle(events.TrainAsked(0, 10_000, lambda _: 8, now)))]
    ends = [plan.end for plan in plans_of(run)]
    while run.machine.state is events.CoordinatorState.TRAINING:
        now += 0.0001
        (end, *_) = ends
        done = events.Heard(bytes([0]), Progress(1, end), now, b"c" * 32)
        handed_out.append(count(run.machine.handle(done)))
        ends = [plan.end for plan in plans_of(run)]
    assert handed_out[0] == 2
    assert set(handed_out[1:-2]) == {1}
    assert handed_out[-2:] == [0, 0]


def test_a_plan_of_other_steps_than_the_next_ends_the_worker() -> None:
    run = ready_run(1, "shared")
    (out,) = run.workers[0].handle(worker.Heard(Plan(1, 3, 4, 0, 4)))
    assert out == worker.Exit("a plan of step 3 came where step 0 was due", expected=False)


def heard(run: Run, rank: int, message: Message) -> None:
    event = events.Heard(bytes([rank]), message, 0.0, b"c" * 32)
    run.at_coordinator(run.machine.handle(event))


def training_run() -> Run:
    run = ready_run()
    run.at_coordinator(run.machine.handle(events.TrainAsked(0, 5, lambda _: 8, 0.0)))
    return run


@pytest.mark.parametrize(
    "message",
    [
        Gradient(1, 1, 0, [0.5], MARKS),
        Gradient(2, 0, 0, [0.5], MARKS),
        Gradient(1, 0, 1, [0.5], MARKS),
        Gradient(1, 0, 0, [0.5, 0.5], MARKS),
        Rows(1, 1, 0),
        Rows(2, 0, 0),
        Rows(1, 0, TABLES),
        Ready(100),
        Progress(1, 1),
        Evaluated(1, [], [], 0.0, 0.0),
    ],
    ids=[
        "step", "generation", "bucket", "roots", "rows of a step", "rows of a generation",
        "rows of no table", "ready", "progress", "evaluated",
    ],
)  # fmt: skip
def test_a_message_out_of_turn_ends_the_run(message: Message) -> None:
    run = training_run()
    with pytest.raises(WorkersLostError, match=r"rank 1 broke the protocol.*rank-1\.log"):
        heard(run, 1, message)
    assert run.machine.state is events.CoordinatorState.OVER
    assert any(isinstance(each, Stop) for each in run.down[0])


def rows(run: Run, rank: int, table: int) -> list[Any]:
    event = events.Heard(bytes([rank]), Rows(1, 0, table), 0.0, b"c" * 32)
    return run.machine.handle(event)


def test_a_table_is_spread_once_all_ranks_have_handed_in_their_rows() -> None:
    run = training_run()
    assert rows(run, 1, 1) == [events.TakeRows(1, 1, 2, 4)]
    assert rows(run, 1, 0) == [events.TakeRows(1, 0, 2, 4)]
    assert run.machine.training.awaited() == [0]
    assert rows(run, 0, 1) == [events.TakeRows(0, 1, 0, 2), events.Spread(0, 1, 4)]
    assert rows(run, 0, 0) == [events.TakeRows(0, 0, 0, 2), events.Spread(0, 0, 4)]
    with pytest.raises(WorkersLostError, match="rank 1 broke the protocol: rows of table 0"):
        run.at_coordinator(rows(run, 1, 0))


def test_a_table_of_another_step_ends_the_worker() -> None:
    run = ready_run()
    (out,) = run.workers[0].handle(worker.Heard(Table(1, 3, 0)))
    assert out == worker.Exit("a table of step 3 came in step -1", expected=False)


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (NonFinite(0, 3, "dense2", "output"), NonFiniteError, "rank 1, shard 3, .*layer dense2"),
        (NonFinite(0, 3, "loss", "value"), NonFiniteError, "shard 3, first in the loss"),
        (
            Failed(False, "MemoryError: big", "File x"),
            WorkersLostError,
            "rank 1 raised MemoryError",
        ),
        (Failed(True, "no such file", ""), UsageError, "rank 1: no such file"),
    ],
)
def test_what_workers_report(message: Message, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        heard(training_run(), 1, message)


@pytest.mark.parametrize("when", ["joining", "idle", "training"])
def test_a_death_ends_the_run_whenever_it_comes(when: str) -> None:
    run = {
        "joining": lambda: Run(2, 4, lambda _: 8),
        "idle": ready_run,
        "training": training_run,
    }[when]()
    with pytest.raises(WorkersLostError, match=r"rank 1 was killed.*; see rank-1\.log"):
        run.at_coordinator(run.machine.handle(events.Gone(1, "was killed")))
    assert run.machine.handle(events.Gone(0, "was killed")) == []
