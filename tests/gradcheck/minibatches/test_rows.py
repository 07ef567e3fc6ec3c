"""The rows of steps: right ones pass, and each way to spoil them is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dptrain.data import dataset
from dptrain.data.dataset import Split
from dptrain.data.sampling import epoch_order
from dptrain.exchange.rank import Rank
from dptrain.experiment import job as job_module
from dptrain.experiment.job import Job
from dptrain.gradcheck.calls import check
from dptrain.gradcheck.minibatches import sighted
from dptrain.gradcheck.minibatches.rows import check_rows
from dptrain.gradcheck.verdict import Verdict
from tests.exchange.build import Data, experiments
from tests.gradcheck.minibatches.cases import ALL, case, images

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"validation": 0.2, "test": 0.3, "train_rows": None},
        {"validation": 0.2, "train_rows": 7, "batch_size": 5},
        {"test": 0.0, "train_rows": None, "batch_size": 60},
        {"batch_size": 1, "shards": 1},
        {"batch_size": 1, "train_rows": 1},
        {"augment_noise": 0.3},
    ],
)
def test_right_rows(settings: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    assert case(tmp_path / "data", dtype=dtype, **settings).passes()
    assert case(tmp_path / "with-test", dtype=dtype, test_part=9, **settings).passes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(6, 7), (7, 7, 1), (5, 6, 3)])
@pytest.mark.parametrize("settings", [{}, {"augment_shift": 4}, {"augment_rotate": 180.0}, ALL])
def test_right_images(
    settings: dict[str, Any], shape: tuple[int, ...], dtype: str, tmp_path: Path
) -> None:
    assert images(tmp_path / "data", shape, dtype=dtype, **settings).passes()


@pytest.mark.parametrize("outputs", [1, 2])
def test_right_rows_of_a_regression(outputs: int, tmp_path: Path) -> None:
    t = np.random.default_rng(1).standard_normal((60, outputs))
    layers = [{"layer": "dense", "units": outputs}]
    assert case(tmp_path / "data", t=t, layers=layers, augment_noise=0.1).passes()


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_experiments_pass(data: Data, draws: st.DataObject) -> None:
    drawn = draws.draw(experiments(st.integers(1, 7)))
    found = check_rows(data.job(drawn), data.folder(drawn), (1, 2, 3))
    assert {each.verdict for each in found} == {Verdict.PASS}


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    st.integers(6, 60),
    st.sampled_from([0.0, 0.1, 0.37]),
    st.sampled_from([0.0, 0.2, 0.45]),
    st.one_of(st.none(), st.integers(1, 2)),
    st.integers(1, 70),
    st.integers(0, 2**40),
)
def test_random_splits_pass(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    validation: float,
    test: float,
    train_rows: int | None,
    batch_size: int,
    seed: int,
) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, 3))
    left = rows - max(1, round(test * rows)) * (test > 0)
    left -= max(1, round(validation * left)) * (validation > 0)
    batch_size = min(batch_size, train_rows or left)
    found = case(
        tmp_path_factory.mktemp("split") / "data", x, validation=validation, test=test,
        train_rows=train_rows, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    assert found.passes()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


def network_of_the_users_own(params: Any, x: Any, t: Any) -> Any:
    w = params["W"]
    error = x.reshape(len(x), -1) @ w - t
    return float(np.mean(np.sum(error**2, 1))), {"W": 2 * x.reshape(len(x), -1).T @ error / len(x)}


def test_rows_of_a_network_of_the_users_own(patched: "Patched") -> None:
    x, t = np.random.default_rng(0).standard_normal((40, 4)), np.eye(3)[np.arange(40) % 3]
    params = {"W": np.random.default_rng(1).standard_normal((4, 3))}

    def report() -> Any:
        return check(
            network_of_the_users_own, (x, t), params=params, workers=(1,), exchange=("inline",)
        )

    assert report().verdict is Verdict.PASS
    patched.order(lambda right, seed, epoch, rows: right(seed, epoch % 2, rows))
    found = report()
    assert found.blamed == "rows"
    assert found.failures[0].diagnoses[0].kind == "same-order"


class Patched:
    """Puts bugs into the places that rows come through."""

    def __init__(self, monkeypatch: Patch) -> None:
        self.set = monkeypatch.setattr

    def order(self, change: Any) -> None:
        """Change the order of an epoch."""
        self.set(job_module, "epoch_order", lambda *a: np.asarray(change(epoch_order, *a), np.intp))

    def minibatch(self, change: Any) -> None:
        """Change the rows of a step."""
        right = Job.minibatch
        self.set(Job, "minibatch", lambda job, step: change(job, right, step))

    def gathered(self, change: Any) -> None:
        """Change what is gathered: given rows, inputs and targets."""
        right = Split.gather

        def gather(split: Split, order: Any, x: Any, t: Any, grey: Any = None) -> None:
            right(split, order, x, t, grey)
            change(split, order, x, t)

        self.set(Split, "gather", gather)


@pytest.fixture
def patched(monkeypatch: Patch) -> Patched:
    return Patched(monkeypatch)


def filled_up(job: Job, right: Any, step: int) -> Any:
    epoch, position = divmod(step, job.steps_per_epoch)
    order = np.concatenate(
        [right(job, epoch * job.steps_per_epoch + i) for i in range(job.steps_per_epoch)]
    )
    start = min(position * job.batch_size, len(order) - job.batch_size)
    return order[start : start + job.batch_size]


ORDERS = {
    "no epoch in the key": (
        lambda _, __, ___, rows: np.random.default_rng(1).permutation(rows),
        "same-order: Every epoch visits the rows in the same order.",
    ),
    "two orders": (
        lambda right, seed, epoch, rows: right(seed, epoch % 2, rows),
        "same-order: The order of the rows comes again after 2 epochs.",
    ),
    "four bits of the epoch": (
        lambda right, seed, epoch, rows: right(seed, epoch % 16, rows),
        "same-order: The order of the rows comes again after more than 4 epochs.",
    ),
    "counted from 1": (
        lambda right, seed, epoch, rows: right(seed, epoch + 1, rows),
        "order-of-another-epoch: ",
    ),
    "not shuffled": (lambda _, __, ___, rows: np.arange(rows), "not-shuffled: "),
    "another seed": (
        lambda right, seed, epoch, rows: right(seed + 1, epoch, rows),
        "order-of-another-seed: The rows are shuffled with the seed 4 instead of 3.",
    ),
    "with replacement": (
        lambda _, __, epoch, rows: np.random.default_rng(epoch).integers(rows, size=rows),
        "drawn-with-replacement: Rows are drawn with replacement: of 29 rows, ",
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_wrong_orders(name: str, patched: Patched, tmp_path: Path) -> None:
    change, wanted = ORDERS[name]
    right = case(tmp_path / "data")
    patched.order(change)
    assert ": ".join(right.named()).startswith(wanted)


MINIBATCHES = {
    "the next step's": (
        lambda job, right, step: right(job, step + 1),
        "rows-of-another-step: Every step visits the rows of the step after it.",
    ),
    "filled up": (
        filled_up,
        "minibatch-filled-up: The last minibatch of an epoch is filled up with rows before it.",
    ),
    "a row lost": (lambda job, right, step: right(job, step)[1:], "rows-lost: Rows are lost: row "),
    "a row twice": (
        lambda job, right, step: right(job, step)[[0, *range(len(right(job, step)) - 1)]],
        "rows-lost-and-counted-twice: Rows are lost (row ",
    ),
    "sorted": (
        lambda job, right, step: np.sort(right(job, step)),
        "rows-in-another-order: Minibatches have their rows in another order, in the steps 0, 1",
    ),
}


@pytest.mark.parametrize("name", MINIBATCHES)
def test_wrong_minibatches(name: str, patched: Patched, tmp_path: Path) -> None:
    change, wanted = MINIBATCHES[name]
    right = case(tmp_path / "data")
    patched.minibatch(change)
    assert ": ".join(right.named()).startswith(wanted)


def test_a_rank_with_the_rows_of_another(monkeypatch: Patch, tmp_path: Path) -> None:
    right, one = Rank._fill, case(tmp_path / "data")

    def same(self: Rank, found: Any, split: Any, order: Any) -> None:
        right(self, found, split, np.roll(order, found.blocks[0].start if found.blocks else 0))

    monkeypatch.setattr(Rank, "_fill", same)
    assert one.named() == ("same-shard", "Rank 1 has the rows of rank 0.")

    def early(self: Rank, found: Any, split: Any, order: Any) -> None:
        late = found.blocks and found.blocks[0].start
        right(self, found, split, np.roll(order, 1) if late else order)

    monkeypatch.setattr(Rank, "_fill", early)
    assert one.named() == (
        "overlapping-shards",
        "Rank 1 has the places 8 to 11 of the minibatch of step 3 instead of 9 to 12.",
    )


def test_shards_of_no_rank(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(sighted, "assign", lambda _, __: [(0, 2), (2, 4)])
    kind, sentence = case(tmp_path / "data").named()
    assert kind == "rows-lost"
    assert sentence.startswith("Rows belong to no one of 2 ranks: row ")


def scaled(split: Split, order: Any, x: Any, t: Any) -> None:
    x *= 255 / 256


def shuffled(split: Split, order: Any, x: Any, t: Any) -> None:
    split.targets.take(order, 0, t, "clip")


def centred(split: Split, order: Any, x: Any, t: Any) -> None:
    x -= 0.5
    x *= 2


def transposed(split: Split, order: Any, x: Any, t: Any) -> None:
    x[...] = x.swapaxes(1, 2).copy()


def halved(split: Split, order: Any, x: Any, t: Any) -> None:
    x[...] = x.astype(np.float16)


def reversed_targets(split: Split, order: Any, x: Any, t: Any) -> None:
    t[...] = t[::-1].copy()


def shifted_targets(split: Split, order: Any, x: Any, t: Any) -> None:
    t -= 1


def one_wrong_target(split: Split, order: Any, x: Any, t: Any) -> None:
    t[0] = (t[0] + 1) % 3


def garbage(split: Split, order: Any, x: Any, t: Any) -> None:
    x[...] = np.random.default_rng(0).standard_normal(x.shape)


CONTENTS = {
    "a factor": (scaled, "inputs-scaled: Inputs are 0.996094 times what they should be."),
    "without index": (shuffled, "targets-of-other-rows: Targets are taken without the index"),
    "centred": (centred, "inputs-scaled: Inputs x have become 2 x + -1."),
    "transposed": (transposed, "inputs-permuted: Images are transposed"),
    "float16": (halved, "inputs-rounded: Inputs are rounded to float16."),
    "targets the wrong way round": (reversed_targets, "targets-of-other-rows: "),
    "targets one less": (shifted_targets, "targets-changed: Targets are -1 against those"),
    "one target": (one_wrong_target, "targets-of-other-rows: Targets are not those of their rows"),
    "garbage": (garbage, "inputs-unknown: "),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_wrong_contents(name: str, patched: Patched, tmp_path: Path) -> None:
    change, wanted = CONTENTS[name]
    right = images(tmp_path / "data", (6, 6))
    patched.gathered(change)
    assert ": ".join(right.named()).startswith(wanted)


def test_grey_values_by_256(monkeypatch: Patch, tmp_path: Path) -> None:
    right = images(tmp_path / "data", dtype="float32")
    monkeypatch.setattr(
        dataset, "scale_grey", lambda grey, out: np.divide(grey, np.float32(256), out=out)
    )
    kind, sentence = right.named()
    assert kind == "inputs-scaled"
    assert sentence.startswith("Inputs are 0.996094 times")


def test_the_check_begins_with_the_rows(patched: Patched, tmp_path: Path) -> None:
    patched.order(lambda right, seed, epoch, rows: right(seed, epoch % 2, rows))
    found = check(
        network_of_the_users_own,
        (np.random.default_rng(0).standard_normal((40, 4)), np.eye(3)[np.arange(40) % 3]),
        params={"W": np.ones((4, 3))}, workers=(1,), exchange=("inline",),
    )  # fmt: skip
    assert found.comparisons[0].edge == "rows"
