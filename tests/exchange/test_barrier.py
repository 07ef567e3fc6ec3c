"""Meetings of ranks: nobody goes on before all have come, and nobody waits for ever."""

import mmap
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dptrain.arithmetic.shards import assign
from dptrain.exchange.barrier import (
    LINE_WORDS,
    Barrier,
    BarrierKind,
    EventBarrier,
    FlagBarrier,
    Recalled,
    suitable,
)
from dptrain.exchange.collective import Collective, SharedMeeting, committed
from dptrain.launch.local import Inheritance
from dptrain.protocol.lockstep import ARRIVALS
from tests.exchange.build import never

RANKS = 3


def words() -> "memoryview[int]":
    memory = mmap.mmap(-1, 4096)
    return memoryview(memory).cast("q")


@pytest.fixture(params=["flags", "events"])
def meet(request: pytest.FixtureRequest) -> Iterator[Callable[..., Barrier]]:
    """Make barriers of one kind over the same words."""
    kind: BarrierKind = request.param
    shared, inherited = words(), Inheritance(RANKS, kind)

    def make(rank: int, recalled: Callable[[], bool] = never, cores: int = 1) -> Barrier:
        if kind == "events":
            return EventBarrier(shared, rank, inherited.bells, recalled)
        return FlagBarrier(shared, rank, RANKS, cores, recalled)

    yield make
    inherited.close()


@pytest.mark.parametrize("cores", [1, RANKS])
def test_nobody_goes_on_before_all_have_come(meet: Callable[..., Barrier], cores: int) -> None:
    rounds, come = 200, [0] * RANKS
    early: list[tuple[int, list[int]]] = []

    def carry_out(rank: int) -> None:
        barrier = meet(rank, cores=cores)
        for number in range(1, rounds + 1):
            come[rank] = number
            barrier.arrive(number)
            barrier.wait(number)
            seen = list(come)
            if min(seen) < number or max(seen) > number + 1:
                early.append((number, seen))

    threads = [threading.Thread(target=carry_out, args=[rank]) for rank in range(RANKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert come == [rounds] * RANKS
    assert not early


def test_who_waits_can_be_called_back(meet: Callable[..., Barrier]) -> None:
    over = threading.Event()
    barrier = meet(0, over.is_set)
    barrier.arrive(1)
    found: list[BaseException] = []

    def wait() -> None:
        try:
            barrier.wait(1)
        except Recalled as error:
            found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    over.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert len(found) == 1


def test_a_lone_rank_does_not_wait() -> None:
    barrier = FlagBarrier(words(), 0, 1, 1, never)
    barrier.arrive(1)
    barrier.wait(1)


@pytest.mark.parametrize(
    ("machine", "kind"),
    [("x86_64", "flags"), ("AMD64", "flags"), ("aarch64", "events"), ("ppc64le", "events")],
)
def test_only_x86_orders_stores(machine: str, kind: str) -> None:
    assert suitable(machine) == kind


def test_a_word_tells_the_steps_completed() -> None:
    shared = words()
    meeting = Collective(FlagBarrier(shared, 0, 1, 1, never))
    meeting.begin(5)
    meeting.arrive()
    assert committed([shared[0]]) == 5
    meeting.finish()
    assert shared[0] == 6 * ARRIVALS
    assert committed([shared[0]]) == 6
    assert committed([shared[0], 4 * ARRIVALS + 1]) == 4
    assert LINE_WORDS * shared.itemsize == 128


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.data())
def test_every_rank_sees_all_rows_of_a_table(
    ranks: int, shards: int, leaves: int, columns: int, data: st.DataObject
) -> None:
    shards = max(shards, ranks)
    leaves = min(leaves, shards)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    steps = [[random.standard_normal((leaves, columns)) for _ in range(3)] for _ in range(2)]
    shared = words()
    tables = [np.full((shards, columns), np.nan) for _ in range(3)]
    bounds = assign(shards, ranks)
    found: list[list[bytes]] = [[] for _ in range(ranks)]

    def carry_out(rank: int) -> None:
        collective = Collective(FlagBarrier(shared, rank, ranks, 1, never))
        meeting = SharedMeeting(tables, collective)
        bound = [meeting.table(leaves, columns) for _ in tables]
        first, last = bounds[rank]
        for step, rows in enumerate(steps):
            collective.begin(step)
            for (table, meet), each in zip(bound, rows, strict=True):
                table[first:last] = each[first:last]
                meet()
                found[rank].append(table.tobytes())
            collective.finish()
            collective.wait()

    threads = [threading.Thread(target=carry_out, args=[rank]) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert found == [[each.tobytes() for rows in steps for each in rows]] * ranks
