"""Which rows have counted: real workers count each once, and what goes wrong is named."""

from typing import Any

import numpy as np
import pytest

from dptrain.data import dataset
from dptrain.data.sampling import epoch_order
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.ledger import Ledger, check_ledger, diagnose_ledger, judged, seen
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from tests.exchange.build import WITH_WORKERS, Data
from tests.gradcheck.build import data as data
from tests.gradcheck.build import experiment
from tests.gradcheck.test_continuity import program

INLINE = Way("inline", 1)
SHARDS, WORKERS = 5, 3


@pytest.fixture
def settled(data: Data) -> Settled:
    return data.job(experiment()).experiment


@pytest.fixture
def right(settled: Settled) -> Ledger:
    return seen(settled, INLINE)


@pytest.mark.parametrize("exchange", WITH_WORKERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_workers_count_every_row_once(
    exchange: str, dtype: str, data: Data, workers: Program
) -> None:
    job = data.job(experiment(dtype=dtype, augment_noise=0.1, weight_decay=0.1, clip_norm=0.1))
    found = check_ledger(job.experiment, Way(exchange, WORKERS), worker=workers)
    assert [c.verdict for c in found] == [Verdict.PASS] * 16  # steps 0 to 11, and four epochs
    assert {c.edge for c in found} == {"ledger"}
    assert [c.where.rpartition(", ")[2] for c in found[10:14]] == [
        "step 10", "step 11", "epoch 0", "epoch 1"
    ]  # fmt: skip


@pytest.mark.parametrize("sizes", [(1, 1), (1, 4), (2, 8), (7, 1), (40, 4)])
def test_every_size_of_minibatch(sizes: tuple[int, int], data: Data) -> None:
    batch, shards = sizes
    job = data.job(experiment(batch_size=batch, shards=shards))
    assert {c.verdict for c in check_ledger(job.experiment, INLINE)} == {Verdict.PASS}


def test_rows_are_counted_apart(right: Ledger) -> None:
    assert [len(order) for order in right.orders] == [13, 13, 4] * 4
    assert diagnose_ledger(right, SHARDS, WORKERS) == []
    assert not np.array_equal(right.orders[0], right.orders[3])


def minibatch(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the rows of every step those that ``change`` makes of job, right method and step."""
    found = Job.minibatch
    monkeypatch.setattr(Job, "minibatch", lambda job, step: change(job, found, step))


def best(ledger: Ledger, settled: Settled) -> str:
    assert any(c.verdict is Verdict.FAIL for c in judged(ledger, settled, INLINE))
    found = diagnose_ledger(ledger, SHARDS, WORKERS)
    assert found[0].residual < 1e-6, found[:3]
    return f"{found[0].kind}: {found[0].sentence}"


def test_a_step_with_rows_of_the_next(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    minibatch(
        lambda job, right, step: (
            right(job, 3 * (step // 3) + (1 - step % 3) % 3) if step % 3 < 2 else right(job, step)
        ),
        monkeypatch,
    )
    assert best(seen(settled, INLINE), settled).startswith("rows-of-another-step")


def test_a_row_in_the_place_of_another(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    def repeated(job: Job, right: Any, step: int) -> Any:
        order = right(job, step).copy()
        if step == 1:
            order[3] = order[5]
        return order

    minibatch(repeated, monkeypatch)
    found = best(seen(settled, INLINE), settled)
    monkeypatch.undo()
    order = seen(settled, INLINE).orders[1]
    assert found == (
        f"rows-lost-and-counted-twice: Rows are lost (row {order[3]} in step 1) and others "
        f"counted twice (row {order[5]} in step 1)."
    )


def test_every_epoch_in_the_same_order(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    minibatch(lambda job, right, step: right(job, step % 3), monkeypatch)
    assert best(seen(settled, INLINE), settled) == (
        "same-order: Every epoch visits the rows in the same order."
    )


def spoilt(right: Ledger, weights: Any) -> Ledger:
    return right._replace(weights=np.asarray(weights))


def test_a_lost_last_batch(right: Ledger, settled: Settled) -> None:
    weights = right.weights.copy()
    weights[2::3] = 0
    assert best(spoilt(right, weights), settled).startswith("rows-lost")


def test_lost_rows(right: Ledger, settled: Settled) -> None:
    weights = right.weights.copy()
    gone = right.orders[1][:2]
    weights[1, gone] = 0
    rows = ", ".join(f"row {row} in step 1" for row in sorted(gone))
    assert best(spoilt(right, weights), settled) == f"rows-lost: Rows are lost: {rows}."
    weights[1] *= 13 / 11
    assert best(spoilt(right, weights), settled) == (
        f"rows-lost: Rows are lost, and the mean is over the others: {rows}."
    )


def test_rows_counted_twice(right: Ledger, settled: Settled) -> None:
    weights = right.weights.copy()
    weights[4, right.orders[4][0]] *= 2
    assert best(spoilt(right, weights), settled) == (
        f"rows-counted-twice: Rows are counted twice or more: row {right.orders[4][0]} in step 4."
    )


@pytest.mark.parametrize(
    ("kind", "factor"),
    [("divided-by-workers", 1 / 3), ("multiplied-by-workers", 3)],
)
def test_factors(kind: str, factor: float, right: Ledger, settled: Settled) -> None:
    assert best(spoilt(right, right.weights * factor), settled).startswith(kind)


def test_a_sum(right: Ledger, settled: Settled) -> None:
    assert best(spoilt(right, right.weights * right.sizes), settled).startswith("sum-not-mean")


def test_means_of_means(right: Ledger, settled: Settled) -> None:
    # shards of 3, 3, 3, 2, 2 and of 1, 1, 1, 1 rows; ranks of 6, 5, 2 and of 2, 2, 0 rows
    def mean(parts: int, long: list[int], short: list[int]) -> Any:
        sizes = {13: np.repeat(long, long), 4: np.repeat(short, short)}
        return right.spread(lambda order: 1 / (parts * sizes[len(order)]))

    ranks = spoilt(right, mean(3, [6, 5, 2], [2, 2]))
    assert best(ranks, settled).startswith("mean-of-ranks-means")
    shards = spoilt(right, mean(5, [3, 3, 3, 2, 2], [1, 1, 1, 1]))
    assert best(shards, settled).startswith("mean-of-shards-means")


def test_targets_of_other_rows(right: Ledger, settled: Settled) -> None:
    targets = right.targets
    wrong = right.spread(lambda order: targets[np.roll(order, 1)] / targets[order] / len(order))
    assert best(spoilt(right, wrong), settled).startswith("targets-of-other-rows")


def order(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the order of every epoch what ``change`` makes of seed, epoch and rows."""
    monkeypatch.setattr("dptrain.experiment.job.epoch_order", change)


def test_orders_that_come_again(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    order(lambda seed, epoch, rows: epoch_order(seed, epoch % 2, rows), monkeypatch)
    assert best(seen(settled, INLINE), settled) == (
        "same-order: The order of the rows comes again after 2 epochs."
    )
    once = np.random.default_rng(0).permutation(30)
    order(lambda _, __, ___: once, monkeypatch)
    assert best(seen(settled, INLINE), settled) == (
        "same-order: Every epoch visits the rows in the same order."
    )


def test_rows_drawn_with_replacement(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(_: int, epoch: int, rows: int) -> Any:
        return np.random.default_rng(epoch).integers(rows, size=rows)

    order(drawn, monkeypatch)
    assert best(seen(settled, INLINE), settled).startswith("drawn-with-replacement: ")


def test_a_last_minibatch_that_is_filled_up(
    settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def filled(job: Job, right: Any, step: int) -> Any:
        epoch = step - step % 3
        rows = np.concatenate([right(job, epoch + i) for i in range(3)])
        return rows[-13:] if step % 3 == 2 else right(job, step)

    minibatch(filled, monkeypatch)
    assert best(seen(settled, INLINE), settled) == (
        "minibatch-filled-up: The last minibatch of an epoch is filled up with rows before it."
    )


def test_a_last_minibatch_that_never_comes(
    settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    minibatch(lambda job, right, step: right(job, 3 * (step // 2) + step % 2), monkeypatch)
    assert best(seen(settled, INLINE), settled) == (
        "rows-lost: The last minibatch of an epoch, which is smaller, is lost."
    )


def test_rows_that_are_not_to_be_trained_on(
    settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, apart = dataset._some, dataset._hold_out
    monkeypatch.setattr(dataset, "_some", lambda _, rows, __: rows)
    assert best(seen(settled, INLINE), settled).startswith("rows-outside-training: All rows")
    monkeypatch.setattr(dataset, "_some", lambda count, rows, _: rows[-count:])
    assert best(seen(settled, INLINE), settled).startswith(
        "rows-outside-training: Rows outside of the training rows are trained on: row "
    )
    monkeypatch.setattr(dataset, "_some", some)
    monkeypatch.setattr(dataset, "_hold_out", lambda n, f, rows, s: (rows, apart(n, f, rows, s)[1]))
    assert best(seen(settled, INLINE), settled).startswith("held-out-rows-trained: ")


def test_what_fails_carries_the_kind(settled: Settled, monkeypatch: pytest.MonkeyPatch) -> None:
    order(lambda seed, epoch, rows: epoch_order(seed, epoch % 2, rows), monkeypatch)
    failed = [c for c in check_ledger(settled, INLINE) if c.verdict is Verdict.FAIL]
    assert [each.where.rpartition(" ")[2] for each in failed] == ["6", "7", "8", "9", "10", "11"]
    assert {each.diagnoses[0].kind for each in failed} == {"same-order"}


def test_worker_processes_that_train_on_all_rows(data: Data) -> None:
    worker = program(
        "from msgspec.structs import replace; import dptrain.experiment.job as job\n"
        "right = job.opened_data\n"
        "job.opened_data = lambda e, folder: right(replace(e, train_rows=None), folder)"
    )
    settled = data.job(experiment()).experiment
    found = check_ledger(settled, Way("shared", WORKERS), worker=worker)
    failed = [c for c in found if c.verdict is Verdict.FAIL]
    assert failed[0].diagnoses[0].kind == "rows-outside-training"
