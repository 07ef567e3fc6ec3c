"""Which tensors of a network of the user's own are frozen, and which are weights."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dptrain.errors import UsageError
from dptrain.experiment.defaults import settle
from dptrain.experiment.schema import Experiment
from dptrain.own.tensors import own_tensors
from dptrain.trained import load_run
from tests.commands import dptrain, result
from tests.own.nets import EXAMPLE, like_the_example
from tests.sessions import write_dataset

SIZES = json.dumps({"input_size": 20, "hidden_size": 7, "output_size": 3, "weight_init_std": 0.3})
ROWS = """    def __init__(self, **sizes):
        super().__init__(**sizes)
        for name in ("b1", "b2"):
            self.params[name] = np.ones((1, len(self.params[name])))

    def gradient(self, x, t):
        return {n: g.reshape(self.params[n].shape) for n, g in super().gradient(x, t).items()}"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    data = write_dataset(tmp_path_factory.mktemp("data") / "small.npz")
    return ("--dataset", data, "--batch-size", 30, "--optimizer", "sgd")


@pytest.mark.parametrize(
    ("shapes", "weights"),
    [
        ({"W1": (5, 4), "b1": (4,), "W2": (4, 1), "b2": (1,)}, ["W1", "W2"]),
        ({"W1": (5, 4), "b1": (1, 4), "W2": (4, 1), "b2": (1, 1)}, ["W1", "W2"]),
        ({"W1": (4, 4), "b1": (4, 1), "W2": (1, 4), "b2": (1, 1)}, ["W1", "W2"]),
        ({"b": (1, 2), "W": (3, 2)}, ["W"]),
        ({"W": (5, 4), "w0": (1, 4), "V": (4, 1), "v0": (1, 1)}, ["W", "V"]),
        ({"a": (1, 4), "c": (1, 4), "d": (4, 4), "e": (4, 1)}, ["a", "c", "d", "e"]),
        (
            {"fc.weight": (2, 2), "last.weight": (1, 2), "last.bias": (1, 1)},
            ["fc.weight", "last.weight"],
        ),
        ({"W1": (3, 1, 2, 2), "gamma1": (1, 3, 1, 1), "beta1": (1, 3, 1, 1)}, ["W1"]),
        ({"b": (3, 3), "scale": ()}, ["b"]),
    ],
)
def test_what_is_a_weight(shapes: dict[str, tuple[int, ...]], weights: list[str]) -> None:
    tensors = [each for (each,) in own_tensors(shapes)]
    assert [t.name for t in tensors if t.decays] == weights
    named = [t.name for (t,) in own_tensors(shapes, decayed=list(shapes)) if t.decays]
    assert named == list(shapes)


def test_biases_in_rows_do_not_decay(job: tuple[object, ...], tmp_path: Path) -> None:
    model = like_the_example(tmp_path, ROWS)
    own = (*job, "--model", model, "--model.args", SIZES, "--workers", 1, "--steps", 6)
    still = ("--lr", 1e-30, "--l1", 1e28)  # nothing is left of a step but the penalty

    def trained(name: str, *flags: object) -> dict[str, np.ndarray]:
        done = dptrain("train", *own, *still, *flags, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        told[name] = re.findall(r"penalty +(.*)", done.stdout + done.stderr)[0]
        return load_run(tmp_path / name, "last")[0].weights

    told: dict[str, str] = {}
    weights = trained("by-shape")
    assert told["by-shape"] == "l1 applies to W1, W2; not to b1, b2"
    assert (weights["b1"] == 1).all()
    assert (weights["b2"] == 1).all()
    chosen = trained("named", "--decayed", "b1,W2", "--weight-decay", 1e-9)
    assert told["named"] == "weight decay and l1 apply to b1, W2; not to W1, b2"
    np.testing.assert_allclose(chosen["b1"], 1 - 6 * 0.01, rtol=1e-5)
    assert (chosen["b2"] == 1).all()
    np.testing.assert_array_equal(chosen["W2"], weights["W2"])


def test_what_is_frozen_stays_for_any_number_of_workers(
    job: tuple[object, ...], tmp_path: Path
) -> None:
    own = (*job, "--model", EXAMPLE, "--model.args", SIZES)

    def trained(
        name: str, lr: float, *flags: object, steps: int = 6
    ) -> tuple[str, dict[str, np.ndarray]]:
        flags = (
            "--lr",
            lr,
            "--steps",
            steps,
            "--clip-norm",
            1e-3,
            *flags,
            "--out",
            tmp_path / name,
        )
        digest = result("train", *own, *flags)["digest"]
        return digest, load_run(tmp_path / name, "last")[0].weights

    _, start = trained("start", 1e-30)
    frozen = ("--freeze", "W1,b2")
    ways = [("--workers", 1), ("--workers", 3, "--exchange", "star")]
    found = [
        trained(str(i), 0.5, *frozen, "--weight-decay", 0.1, *way) for i, way in enumerate(ways)
    ]
    assert len({digest for digest, _ in found}) == 1
    for name, weights in found[1][1].items():
        stays = np.allclose(weights, start[name], rtol=0, atol=1e-12)
        assert stays is (name in ("W1", "b2"))
    # a clipped step of SGD is lr times the limit long: only what is trained belongs to the norm
    _, after = trained("clipped", 10, *frozen, steps=1)
    moved = sum(float(np.sum((after[n] - start[n]).astype(float) ** 2)) for n in start) ** 0.5
    assert moved == pytest.approx(10 * 1e-3, rel=1e-3)


def test_names_that_there_are_not() -> None:
    shapes = {"W1": (2, 3), "b1": (3,)}
    with pytest.raises(UsageError, match=r"freeze='dense1' is not .* choose from: W1, b1"):
        own_tensors(shapes, ["dense1"])
    with pytest.raises(UsageError, match=r"decayed='Weight1' is not .* did you mean 'weight1'"):
        own_tensors({"weight1": (2, 3)}, decayed=["Weight1"])
    with pytest.raises(UsageError, match="leaves nothing to train"):
        own_tensors(shapes, ["b1", "W1"])


def test_settings_that_mean_nothing() -> None:
    with pytest.raises(UsageError, match="means nothing without --weight-decay or --l1"):
        settle(Experiment(model=EXAMPLE, decayed=["W1"]), 1, 3, 100, "digest")
    with pytest.raises(UsageError, match="is for a network of your own"):
        settle(Experiment(decayed=["dense1.W"], l1=0.1), 1, 3, 100, "digest")
