"""What is lost of a state: each lapse made by hand, and named."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from dptrain.exchange.engine import State
from dptrain.exchange.inline import InlineEngine
from dptrain.gradcheck.distributed import copied
from dptrain.gradcheck.runs.lapses import arrays_of, lapses
from tests.exchange.build import Data
from tests.gradcheck.build import data as data
from tests.gradcheck.test_continuity import case

Arrays = dict[str, Any]


def narrow(values: Any, dtype: Any) -> Any:
    return values.astype(dtype).astype(float)


def biases_lost(found: Arrays, job: Any, _: Any) -> None:
    for tensor in job.network.all_tensors():
        if tensor.name.endswith(".b"):
            found["weights"][tensor.start : tensor.stop] = 0


def exchanged(found: Arrays, _: Any, __: Any) -> None:
    found["mean"], found["squares"] = found["squares"], found["mean"]


def tail_lost(found: Arrays, _: Any, __: Any) -> None:
    found["mean"][100:] = 0


def transposed(found: Arrays, job: Any, _: Any) -> None:
    for tensor in job.network.all_tensors():
        own = slice(tensor.start, tensor.stop)
        found["weights"][own] = found["weights"][own].reshape(tensor.shape).T.reshape(-1)


def set_to(name: str, make: Callable[[Arrays, list[Arrays]], Any]) -> Callable[..., None]:
    def change(found: Arrays, _: Any, course: list[Arrays]) -> None:
        found[name] = make(found, course)

    return change


def all_of(step: int) -> Callable[..., None]:
    def change(found: Arrays, _: Any, course: list[Arrays]) -> None:
        found |= {name: array.copy() for name, array in course[step].items()}

    return change


CASES: dict[str, tuple[Callable[..., None], str, str]] = {
    "zero": (
        set_to("mean", lambda f, _: 0 * f["mean"]), "state-lost", "the optimizer's mean is zero"
    ),
    "missing": (
        set_to("squares", lambda f, _: np.full_like(f["squares"], np.nan)),
        "state-lost",
        "the optimizer's squares is missing",
    ),
    "weights": (
        set_to("weights", lambda f, _: 0 * f["weights"]), "tensor-lost", "the weights are zero"
    ),
    "biases": (biases_lost, "tensor-lost", "dense1.b and dense2.b are zero"),
    "tail": (tail_lost, "state-lost", "the optimizer's mean of elements 100 to "),
    "float32": (
        set_to("weights", lambda f, _: narrow(f["weights"], "f4")),
        "checkpoint-rounded",
        "the weights are rounded to float32",
    ),
    "float16": (
        set_to("mean", lambda f, _: narrow(f["mean"], "f2")),
        "checkpoint-rounded",
        "the optimizer's mean is rounded to float16",
    ),
    "exchanged": (
        exchanged, "state-exchanged", "the optimizer's mean and squares have changed places"
    ),
    "one for the other": (
        set_to("mean", lambda f, _: f["squares"].copy()),
        "state-exchanged",
        "the optimizer's mean is the run's squares",
    ),
    "before": (
        set_to("weights", lambda _, c: c[2].copy()["weights"]),
        "checkpoint-other-step",
        "the weights are what they were after step 2",
    ),
    "all before": (
        all_of(1), "checkpoint-other-step", "everything is what it was after step 1"
    ),
    "sign": (set_to("weights", lambda f, _: -f["weights"]), "sign", "the weights are of the wrong"),
    "transposed": (transposed, "transposed", "the weights are transposed"),
    "shifted": (
        set_to("mean", lambda f, _: np.roll(f["mean"], 1)), "tensor-shifted", "by one element"
    ),
    "scaled": (
        set_to("squares", lambda f, _: 3 * f["squares"]),
        "checkpoint-scaled",
        "the optimizer's squares is multiplied by 3",
    ),
    "bytes": (
        set_to("weights", lambda f, _: f["weights"].byteswap()), "byte-order", "in the wrong order"
    ),
    "anything": (
        set_to("weights", lambda f, _: np.sin(np.arange(len(f["weights"])))),
        "checkpoint-wrong",
        "elements of the weights are wrong",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_lapses_are_named(name: str, data: Data) -> None:
    change, kind, text = CASES[name]
    job, _, state = case(data)
    engine = InlineEngine(job, state.parameters, state.slots)
    states = [copied(engine.state())]
    states += (copied(engine.state()) for _ in engine.train(0, 4, lambda: False, 1))

    def course() -> Iterator[tuple[int, State]]:
        yield from enumerate(states)

    known = [arrays_of(job, each) for each in states]
    found = arrays_of(job, states[3])
    assert lapses(job, found, known[3], course, "Here,") == []
    change(found, job, known)
    diagnoses = lapses(job, found, known[3], course, "Here,")
    assert [each.kind for each in diagnoses] == [kind]
    assert diagnoses[0].sentence.startswith("Here, ")
    assert text in diagnoses[0].sentence
    assert diagnoses[0].residual == (kind == "checkpoint-wrong")
