"""Which rows have counted: real workers count each once, and what goes wrong is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.ledger import Ledger, check_ledger, diagnose_ledger, seen
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from tests.exchange.build import WITH_WORKERS, Data
from tests.gradcheck.build import data as data
from tests.gradcheck.build import experiment
from tests.gradcheck.slips import MINIBATCH, SOME, VISITS, Slip

INLINE = Way("inline", 1)
SHARDS, WORKERS = 5, 3


@pytest.mark.parametrize("exchange", WITH_WORKERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_workers_count_every_row_once(
    exchange: str, dtype: str, data: Data, workers: Program
) -> None:
    job = data.job(experiment(dtype=dtype, augment_noise=0.1, weight_decay=0.1, clip_norm=0.1))
    found = check_ledger(job.experiment, Way(exchange, WORKERS), worker=workers)
    assert [(c.edge, c.verdict) for c in found] == [("ledger", Verdict.PASS)] * 16
    assert [c.where.rpartition(", ")[2] for c in found[11:13]] == ["step 11", "epoch 0"]


@pytest.mark.parametrize("sizes", [(1, 1), (1, 4), (2, 8), (7, 1), (40, 4)])
def test_every_size_of_minibatch(sizes: tuple[int, int], data: Data) -> None:
    batch, shards = sizes
    job = data.job(experiment(batch_size=batch, shards=shards))
    assert {c.verdict for c in check_ledger(job.experiment, INLINE)} == {Verdict.PASS}


RETURN = "return self._order[1][start : start + self.batch_size]"
SLIPS = [
    *VISITS,
    Slip(MINIBATCH, "(step,", "(step + (step % 3 == 0) - (step % 3 == 1),",
         "rows-of-another-step: "),
    Slip(MINIBATCH, "step, self.steps_per_epoch", "step, 2",
         "rows-lost: The last minibatch of an epoch, which is smaller, is lost."),
    Slip(MINIBATCH, RETURN,
         f"rows = {RETURN[7:]}.copy(); rows[3] = rows[5 if step == 1 else 3]; return rows",
         "rows-lost-and-counted-twice: Rows are lost (row "),
    Slip(SOME, "rows[order[:count]]", "rows[-count:]",
         "rows-outside-training: Rows outside of the training rows are trained on: row "),
]  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS, ids=str)
def test_slips_are_named(slip: Slip, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    settled = data.job(experiment()).experiment
    slip.let_loose(monkeypatch)
    found = [c for c in check_ledger(settled, INLINE) if c.verdict is Verdict.FAIL]
    why = found[0].diagnoses[0]
    assert f"{why.kind}: {why.sentence}".startswith(slip.told)
    assert why.residual < 1e-6
    if "epoch % 2" in slip.new:
        assert [c.where.rpartition(" ")[2] for c in found] == ["6", "7", "8", "9", "10", "11"]


@pytest.fixture(scope="module")
def right(data: Data) -> Ledger:
    settled = data.job(experiment()).experiment
    return seen(settled, INLINE)


def mean_of_means(parts: int, long: list[int], short: list[int]) -> Callable[[Ledger], Any]:
    # shards of 3, 3, 3, 2, 2 and of 1, 1, 1, 1 rows; ranks of 6, 5, 2 and of 2, 2, 0 rows
    sizes = {13: np.repeat(long, long), 4: np.repeat(short, short)}
    return lambda of: of.spread(lambda order: 1 / (parts * sizes[len(order)]))


def without(seen: Ledger, step: int, places: slice, factor: float = 1.0) -> Any:
    """Return the weights where some rows of a step are lost."""
    found = seen.weights.copy()
    found[step, seen.orders[step][places]] = 0
    found[step] *= factor
    return found


def doubled(seen: Ledger) -> Any:
    found = seen.weights.copy()
    found[4, seen.orders[4][0]] *= 2
    return found


def others_targets(seen: Ledger) -> Any:
    t = seen.targets
    return seen.spread(lambda order: t[np.roll(order, 1)] / t[order] / len(order))


SPOILT: dict[str, Callable[[Ledger], Any]] = {
    "rows-lost: Rows are lost: row 10 in step 2": lambda of: of.weights * (of.sizes > 4),
    "rows-lost: Rows are lost: row ": lambda of: without(of, 1, slice(2)),
    "rows-lost: Rows are lost, and the mean is": lambda of: without(of, 1, slice(2), 13 / 11),
    "rows-counted-twice: Rows are counted twice or more: row ": doubled,
    "divided-by-workers": lambda of: of.weights / 3,
    "multiplied-by-workers": lambda of: of.weights * 3,
    "sum-not-mean": lambda of: of.weights * of.sizes,
    "mean-of-ranks-means": mean_of_means(3, [6, 5, 2], [2, 2]),
    "mean-of-shards-means": mean_of_means(5, [3, 3, 3, 2, 2], [1, 1, 1, 1]),
    "targets-of-other-rows": others_targets,
}


@pytest.mark.parametrize("told", SPOILT)
def test_wrong_counts_are_named(told: str, right: Ledger) -> None:
    assert diagnose_ledger(right, SHARDS, WORKERS) == []
    best = diagnose_ledger(right._replace(weights=SPOILT[told](right)), SHARDS, WORKERS)[0]
    assert f"{best.kind}: {best.sentence}".startswith(told)
    assert best.residual < 1e-6
