"""What becomes of a state that is kept or gone on with: each made by hand, and named."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from dptrain.errors import NonFiniteError
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.gradcheck.distributed import copied
from dptrain.gradcheck.runs.states import arrays_of, wrong_continuation, wrong_state
from tests.exchange.build import Data
from tests.gradcheck.build import data as data
from tests.gradcheck.test_continuity import case

Arrays = dict[str, Any]
Change = Callable[[Arrays, Any, list[Arrays]], Arrays]


def narrow(values: Any, dtype: str) -> Any:
    return values.astype(dtype).astype(float)


def tensors(found: Arrays, job: Any, change: Callable[[Any, Any], Any]) -> Arrays:
    weights = found["weights"].copy()
    for each in job.network.all_tensors():
        own = slice(each.start, each.stop)
        weights[own] = change(weights[own], each)
    return {"weights": weights}


def last(values: Any) -> Any:
    return np.where(np.arange(len(values)) < 100, values, 0)


# What is done to the state after step 3, and its kind and text.
LOST, TURNED = "state-lost", lambda x, t: x.reshape(t.shape).T.reshape(-1)
KEPT: list[tuple[Change, str, str]] = [
    (lambda f, *_: {"mean": 0 * f["mean"]}, LOST, "the optimizer's mean is zero"),
    (lambda f, *_: {"squares": f["squares"] * np.nan}, LOST, "squares is missing"),
    (lambda f, *_: {"weights": 0 * f["weights"]}, "tensor-lost", "the weights are zero"),
    (lambda f, job, _: tensors(f, job, lambda x, t: x * (not t.name.endswith(".b"))),
     "tensor-lost", "dense1.b and dense2.b are zero"),
    (lambda f, *_: {"mean": last(f["mean"])}, LOST, "elements 100 to 158 of the optimizer's mea"),
    (lambda f, *_: {"weights": narrow(f["weights"], "f4")},
     "checkpoint-rounded", "the weights are rounded to float32"),
    (lambda f, *_: {"mean": narrow(f["mean"], "f2")},
     "checkpoint-rounded", "the optimizer's mean is rounded to float16"),
    (lambda f, *_: {"mean": f["squares"], "squares": f["mean"]},
     "state-exchanged", "the optimizer's mean and squares are in each other's place"),
    (lambda f, *_: {"mean": f["squares"]}, "state-exchanged", "mean is in each other's place"),
    (lambda _, __, c: {"weights": c[2]["weights"]},
     "checkpoint-other-step", "the weights are as after step 2"),
    (lambda _, __, c: c[1], "checkpoint-other-step", "everything is as after step 1"),
    (lambda f, *_: {"weights": -f["weights"]}, "sign", "the weights are of the wrong"),
    (lambda f, job, _: tensors(f, job, TURNED), "transposed", "the weights are transposed"),
    (lambda f, *_: {"mean": np.roll(f["mean"], 1)}, "tensor-shifted", "by one element"),
    (lambda f, *_: {"squares": 3 * f["squares"]}, "checkpoint-scaled", "is multiplied by 3"),
    (lambda f, *_: {"weights": f["weights"].byteswap()}, "byte-order", "in the wrong order"),
    (lambda f, *_: {"weights": np.sin(np.arange(len(f["weights"])))},
     "checkpoint-wrong", "elements 0 to 158 of the weights are wrong, 159 in all"),
]  # fmt: skip


class Trained:
    """The states of a short run."""

    def __init__(self, data: Data) -> None:
        self.job, _, state = case(data)
        engine = InlineEngine(self.job, state.parameters, state.slots)
        self.kept = [copied(engine.state())]
        self.kept += (copied(engine.state()) for _ in engine.train(0, 5, lambda: False, 1))
        self.arrays = [arrays_of(self.job, each) for each in self.kept]

    def states(self) -> Iterator[tuple[int, TrainingState]]:
        yield from enumerate(self.kept)


@pytest.fixture(scope="module")
def trained(data: Data) -> Trained:
    return Trained(data)


def test_a_right_state_has_nothing_wrong(trained: Trained) -> None:
    t = trained
    assert wrong_state(t.job, t.arrays[3], t.arrays[3], t.states, "Here,") == []


@pytest.mark.parametrize(("change", "kind", "text"), KEPT, ids=[text for *_, text in KEPT])
def test_what_is_kept_wrongly_is_named(
    change: Change, kind: str, text: str, trained: Trained
) -> None:
    t, right = trained, trained.arrays[3]
    found = {n: a.copy() for n, a in (right | change(right, t.job, t.arrays)).items()}
    (why,) = wrong_state(t.job, found, right, t.states, "Here,")
    assert why.kind == kind
    assert why.sentence.startswith("Here, ")
    assert text in why.sentence
    assert why.residual == (kind == "checkpoint-wrong")


# What a run goes on with in place of the state after step 3, by how much the numbers are wrong by
# which it chooses rows and by which the optimizer goes, and what that is put down to.
GONE_ON: list[tuple[Change, int, int, str, str]] = [
    (lambda f, *_: {n: 0 * a for n, a in f.items()}, 0, 0, "resumed-elsewhere", "everything zero"),
    (lambda f, *_: {n: 0 * f[n] for n in ("mean", "squares")}, 0, 0,
     LOST, "went on with the optimizer's mean and squares zero"),
    (lambda f, *_: {n: 0 * f[n] for n in ("mean", "squares")}, 0, -3,
     LOST, "mean and squares zero, and counts its steps from the first"),
    (lambda f, *_: {"mean": f["squares"], "squares": f["mean"]}, 0, 0,
     "state-exchanged", "mean and squares in each other's place"),
    (lambda f, *_: {"weights": narrow(f["weights"], "f4")}, 0, 0,
     "checkpoint-rounded", "went on with the weights rounded to float32"),
    (lambda _, __, c: c[2], 0, 0, "resumed-elsewhere", "with everything as after step 2"),
    (lambda _, __, c: {"squares": c[2]["squares"]}, 0, 0,
     "resumed-elsewhere", "went on with the optimizer's squares as after step 2"),
    (lambda *_: {}, -3, 0, "step-miscounted", "from the first again where it chooses its rows"),
    (lambda *_: {}, 1, 1, "step-miscounted", "counts its steps one too high."),
    (lambda *_: {}, 0, -1, "step-miscounted", "counts its steps one too low in the optimizer"),
]  # fmt: skip


class Misled(InlineEngine):
    """Trains with other rates than its steps have."""

    off = 0

    def _update(self, step: int, gradient: Any) -> None:
        super()._update(step + self.off, gradient)


@pytest.mark.parametrize(
    ("change", "rows", "rates", "kind", "text"), GONE_ON, ids=[text for *_, text in GONE_ON]
)
def test_what_a_run_goes_on_with_is_named(
    change: Change, rows: int, rates: int, kind: str, text: str, trained: Trained
) -> None:
    t = trained
    begun = t.arrays[3] | change(t.arrays[3], t.job, t.arrays)
    parameters, *slots = (a.astype(t.job.dtype) for a in begun.values())
    engine = Misled(t.job, parameters, slots)
    engine.off = rates - rows
    found = None  # no number
    with contextlib.suppress(NonFiniteError):
        list(engine.train(3 + rows, 5 + rows, lambda: False, 1))
        found = arrays_of(t.job, engine.state())
    (why,) = wrong_continuation(t.job, t.kept[3], 3, 5, found, t.states)
    assert (why.kind, why.residual) == (kind, 0)
    assert text in why.sentence
