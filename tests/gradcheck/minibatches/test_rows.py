"""The rows of steps, and what they are normalised by: right ones pass, slips are named."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dptrain.gradcheck.calls import check
from dptrain.gradcheck.minibatches.rows import check_rows
from dptrain.gradcheck.verdict import Verdict
from tests.exchange.build import Data, experiments
from tests.gradcheck.build import data as data
from tests.gradcheck.minibatches.cases import ALL, Case, case, images, normalised, standardised
from tests.gradcheck.slips import MINIBATCH, ORDER, SOME, SPLIT, VISITS, Slip

Make = Callable[..., Case]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"validation": 0.2, "test": 0.3, "train_rows": None},
    {"validation": 0.2, "train_rows": 7, "batch_size": 5},
    {"test": 0.0, "train_rows": None, "batch_size": 60},
    {"batch_size": 1, "shards": 1},
    {"batch_size": 1, "train_rows": 1},
    {"augment_noise": 0.3},
]
VALUES = np.random.default_rng(1).standard_normal((60, 2))
RIGHT: dict[str, Make] = {
    **{str(each): partial(case, **each) for each in SETTINGS},
    **{f"{each}, test part": partial(case, test_part=9, **each) for each in SETTINGS},
    **{
        f"images {shape} {each}": partial(images, shape=shape, **each)
        for shape in ((6, 7), (7, 7, 1), (5, 6, 3))
        for each in ({}, {"augment_shift": 4}, {"augment_rotate": 180.0}, ALL)
    },
    "regression": partial(case, t=VALUES, layers=[{"layer": "dense", "units": 2}]),
    **{method: partial(normalised, method=method) for method in ("standard", "minmax")},
    "targets": standardised,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RIGHT)
def test_right_rows(name: str, dtype: str, tmp_path: Path) -> None:
    assert RIGHT[name](tmp_path / "data", dtype=dtype).passes()


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_experiments_pass(data: Data, draws: st.DataObject) -> None:
    drawn = draws.draw(experiments(st.integers(1, 7)))
    found = check_rows(data.job(drawn), data.folder(drawn), (1, 2, 3))
    assert {each.verdict for each in found} == {Verdict.PASS}


OWN = "self._order[1][start : start + self.batch_size]"
GATHER, TARGETS = "data.dataset:Split.gather", 'self.targets.take(rows, 0, t_out, "clip")'
FILLED = "order[block.start : block.start + block.shards * block.rows]"
AUGMENTER, STATISTICS = "data.augmentation:Augmenter", "experiment.normalisation:shift_and_scale"
FILL = "exchange.rank:Rank._fill"
SLIPS: list[tuple[Make, list[Slip]]] = [
    (
        case,
        [
            *VISITS,
            Slip(ORDER, "epoch)", "epoch % 16)", "same-order: The order of the rows comes again "),
            Slip(MINIBATCH, "[start :", "[start + 1 :", "rows-lost: Rows are lost: row "),
            Slip(MINIBATCH, OWN, f"np.roll({OWN}, 1)",
                 "rows-in-another-order: Minibatches have their rows in another order, in the "),
            Slip(MINIBATCH, OWN, f"{OWN}.repeat(2)[1::3]",
                 "rows-lost"),
            Slip(FILL, FILLED,
                 "order[block.start - found.blocks[0].start :][: block.shards * block.rows]",
                 "same-shard: All ranks have the rows of rank 0."),
            Slip(FILL, FILLED,
                 f"np.roll(order, bool(found.blocks[0].start)){FILLED[5:]}",
                 "overlapping-shards: All ranks have the rows that begin one too early."),
            Slip("arithmetic.shards:assign", "return", "return [(0, 2), (2, 4)] #", "rows-lost: "),
            Slip("experiment.job:Job.__init__", "self.steps_per_epoch = ",
                 "self.steps_per_epoch = -1 + ", "rows-lost: The last minibatch of an epoch is "
                 "lost. An epoch has 2 steps instead of ⌈29 / 13⌉ = 3."),
            Slip(SPLIT, "(seed,", "(seed + 1,", "other-split: "),
            Slip(SOME, "np.sort(rows[order[:count]])", "rows[:count]", "rows-outside-training: "),
        ],
    ),
    (
        partial(images, shape=(6, 6)),
        [
            Slip(GATHER, "scale_grey(grey, x_out)", "scale_grey(grey, x_out); x_out *= 255 / 256",
                 "inputs-scaled: Inputs are 0.996094 times what they should be."),
            Slip("data.inputs:scale_grey", "type(255)", "type(256)", "inputs-scaled: Inputs are "),
            Slip(GATHER, TARGETS, 'self.targets.take(order, 0, t_out, "clip")',
                 "targets-of-other-rows: Targets are taken without the index"),
            Slip(GATHER, TARGETS, f"{TARGETS}; x_out[...] = (x_out - 0.5) * 2",
                 "inputs-scaled: Inputs x have become 2 x + -1."),
            Slip(GATHER, TARGETS, f"{TARGETS}; x_out[...] = x_out.swapaxes(1, 2).copy()",
                 "inputs-permuted: Images are transposed"),
            Slip(GATHER, TARGETS, f"{TARGETS}; x_out[...] = x_out.astype('f2')",
                 "inputs-rounded: Inputs are rounded to float16."),
            Slip(GATHER, TARGETS, f"{TARGETS}; t_out[...] = t_out[::-1].copy()",
                 "targets-of-other-rows: "),
            Slip(GATHER, TARGETS, f"{TARGETS}; t_out -= 1",
                 "targets-changed: Targets are -1 against those"),
            Slip(GATHER, TARGETS, f"{TARGETS}; t_out[0] = (t_out[0] + 1) % 3",
                 "targets-of-other-rows: Targets are not those of their rows"),
            Slip(GATHER, TARGETS, f"{TARGETS}; x_out[...] = np.sin(np.arange(x_out.size))"
                 ".reshape(x_out.shape)", "inputs-unknown: "),
        ],
    ),
    (
        partial(images, **ALL),
        [
            Slip("arithmetic.randomness:SteppedNormal.fill", "_begin(step)", "_begin(0)",
                 "augmentation-repeated: Every step draws the noise of step 0."),
            Slip(f"{AUGMENTER}._add_noise", "(noise, deviation", "(noise, 2 * deviation",
                 "augmentation-noise: Noise is 2 times as large as it should be."),
            Slip(f"{AUGMENTER}._add_noise", "block.first + i", "i",
                 "augmentation-by-local-shard: Streams of noise"),
            Slip(f"{AUGMENTER}._stream", "self._streams.get(shard)",
                 "self._streams.get(shard := 0)", "augmentation-"),
            Slip("data.augmentation:_whole", "limit + 1)", "limit)",
                 "augmentation-range: Images are shifted from -2 to 1 pixels, and never by 2."),
            Slip("data.augmentation:_whole", "return", "limit -= limit == 2; return",
                 "augmentation-range: Images are shifted by up to 1 pixels instead of 2."),
            Slip(f"{AUGMENTER}._move", "turns[part]", "-turns[part]",
                 "augmentation-moves: Images turn clockwise"),
            Slip(f"{AUGMENTER}._move", "turns[part], down[part], right[part]",
                 "turns[part], right[part], down[part]",
                 "augmentation-moves: Shifts down and to the right are swapped."),
            Slip("exchange.rank:Rank.augment", "is not None", "and not share.first",
                 "augmentation-missing: In rank 1 alone: "),
        ],
    ),
    (
        partial(case, augment_noise=0.2),
        [Slip("arithmetic.randomness:_Stepped._begin", "(0, 0, 0, step)", "(step, 0, 0, 0)",
              "augmentation-overlap")],
    ),
    (
        partial(images, augment_shift=2),
        [Slip("data.warping:Shift.apply", "flat[...] = self._windows",
              "x[...] = [np.roll(*each, (0, 1)) for each in zip(x, zip(down, right))]; flat",
              "augmentation-edges")],
    ),
    (
        normalised,
        [
            Slip(STATISTICS, "found.mean, found.deviation", "found.mean, found.deviation**2",
                 "normalisation-scale: Inputs are divided by their variance, not its root."),
            Slip(STATISTICS, "found.mean, found.deviation",
                 "found.mean, found.deviation * np.sqrt(29 / 28)",
                 "normalisation-scale: The variance is divided by n - 1, not by n."),
            Slip(STATISTICS, "(train,", "(Split(train.inputs, train.targets),",
                 "normalisation-rows: The numbers are those of all rows"),
            Slip("experiment.normalisation:fit_normalisation", "shift[...], scale[...]", "_",
                 "normalisation-missing"),
        ],
    ),
    (
        partial(normalised, method="minmax"),
        [
            Slip(STATISTICS, "(train,", "(Split(train.inputs, train.targets),",
                 "normalisation-rows: The numbers are those of all rows"),
            Slip(STATISTICS, "found.high - found.low", "found.high", "normalisation-scale"),
        ],
    ),
    (
        standardised,
        [Slip("experiment.normalisation:with_target_scale", "dataset.train.index", "None",
              "target-scale")],
    ),
]  # fmt: skip
ROWS = [(make, slip) for make, slips in SLIPS for slip in slips]


@pytest.mark.parametrize(("make", "slip"), ROWS, ids=[str(slip) for _, slip in ROWS])
def test_slips_are_named(
    make: Make, slip: Slip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slip.let_loose(monkeypatch)
    assert ": ".join(make(tmp_path / "data").named()).startswith(slip.told)


def test_a_check_begins_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_the_users_own(params: Any, x: Any, t: Any) -> Any:
        error = x @ params["W"] - t
        return float(np.mean(np.sum(error**2, 1))), {"W": 2 * x.T @ error / len(x)}

    Slip(ORDER, "epoch)", "epoch % 2)", "").let_loose(monkeypatch)
    x, t = np.random.default_rng(0).standard_normal((40, 4)), np.eye(3)[np.arange(40) % 3]
    asked: dict[str, Any] = {"workers": (1,), "exchange": ("inline",)}
    found = check(of_the_users_own, (x, t), params={"W": np.ones((4, 3))}, **asked)
    assert found.comparisons[0].edge == found.blamed == "rows"
    assert found.failures[0].diagnoses[0].kind == "same-order"
