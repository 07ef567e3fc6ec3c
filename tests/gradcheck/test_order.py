"""Many steps at once, and late workers: right runs, and runs that are made wrong."""

import time
from typing import Any

import pytest

from dptrain.coordinator.shared import SharedCluster
from dptrain.errors import WorkersLostError
from dptrain.gradcheck import order
from dptrain.gradcheck.deadline import Deadline
from dptrain.gradcheck.distributed import Way, engine
from dptrain.gradcheck.order import check_order
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from dptrain.protocol import lockstep
from tests.exchange.build import Data
from tests.gradcheck.build import data as data
from tests.gradcheck.test_continuity import INLINE, WAYS, case, program


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_neither_orders_nor_late_workers_change_anything(
    way: Way, data: Data, workers: Program
) -> None:
    job, folder, state = case(data)
    found = check_order(job, folder, way, state, worker=workers)
    assert {c.verdict for c in found} == {Verdict.PASS}
    assert [c.edge for c in found] == ["plan"] * 4 + ["order"] * 4
    assert {c.compared for c in found if c.name.startswith("mean")} == {job.network.size}
    logged = [c.compared for c in found if c.name.startswith("losses")]
    assert logged[0] >= 1 + order.STEPS // order.EVERY
    assert logged[1] >= 1


def test_one_process_waits_for_nobody(data: Data, workers: Program) -> None:
    job, folder, state = case(data)
    assert check_order(job, folder, INLINE, state) == []
    (shared, *_) = WAYS
    found = check_order(job, folder, shared._replace(workers=1), state, worker=workers)
    assert {c.edge for c in found} == {"plan"}


def test_what_depends_on_time_shows(data: Data) -> None:
    worker = program(
        "import time; from dptrain.exchange.rank import Rank; right = Rank.backward\n"
        "def backward(rank, found, ready=None):\n"
        "    right(rank, found, ready)\n"
        "    found.gradients[0][0] *= 1 + time.monotonic() % 1 * 1e-9\n"
        "Rank.backward = backward"
    )
    job, folder, state = case(data)
    found = check_order(job, folder, WAYS[0], state, worker=worker)
    assert found[0].verdict is Verdict.FAIL
    assert {each.edge for each in found} == {"order"}
    assert found[0].note == "The same run comes to something else each time: a race."


def test_what_goes_wrong_between_steps_shows(
    data: Data, monkeypatch: pytest.MonkeyPatch, workers: Program
) -> None:
    right = SharedCluster._measured

    def first_of_all(cluster: Any, plan: Any, seconds: float, every: int) -> Any:
        found = right(cluster, plan, seconds, every)
        return [each._replace(loss=found[0].loss) for each in found]

    monkeypatch.setattr(SharedCluster, "_measured", first_of_all)
    # plans as long for slow ranks as for quick ones: what is wrong here depends on where they end
    monkeypatch.setattr(lockstep, "PLAN_SECONDS", 1e9)
    job, folder, state = case(data)
    found = check_order(job, folder, WAYS[0], state, worker=workers)
    failed = [c for c in found if c.verdict is Verdict.FAIL]
    assert [c.tensors[0].tensor for c in failed] == ["losses"]
    assert {c.edge for c in found} == {"plan"}
    assert failed[0].note.startswith("The same steps are right if they are ordered one by one")


def test_what_is_wrong_step_by_step_is_told(data: Data) -> None:
    worker = program(
        "from dptrain.exchange.rank import Rank; right = Rank.backward\n"
        "def backward(rank, found, ready=None):\n"
        "    right(rank, found, ready)\n"
        "    found.gradients[0][0] *= 1.5\n"
        "Rank.backward = backward"
    )
    job, folder, state = case(data)
    found = check_order(job, folder, WAYS[0], state, worker=worker)
    assert found[0].note == "One by one, the steps are wrong as well."


def test_ranks_that_wait_for_nobody_are_not_waited_for(data: Data) -> None:
    worker = program(
        "import time; from dptrain.exchange.rank import Rank\n"
        "Rank.evaluate = lambda *_: time.sleep(60)"
    )
    job, folder, state = case(data)
    with engine(job, folder, WAYS[0], state, worker=worker) as found:
        assert isinstance(found, SharedCluster)
        found._stop = Deadline(0.5)  # from here on: a loaded machine takes long to start workers
        with pytest.raises(WorkersLostError, match=r"has not ended after 0.5 s"):
            found.evaluate("train")


def test_a_check_that_was_stopped_itself_has_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    deadline = Deadline(5.0)
    now[0] = 1000.0  # as after Ctrl-Z and fg
    assert not deadline()
    for _ in range(7):
        now[0] += 0.5
        assert not deadline()
    now[0] += 0.1
    with pytest.raises(WorkersLostError, match="has not ended after 5 s"):
        deadline()
