"""Passes with a network of the user's own: exact weights of shards, the same bits for everybody."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dptrain.errors import OwnCodeError
from dptrain.nn.activations import ReLU
from dptrain.nn.dense import Dense
from dptrain.nn.losses import SoftmaxCrossEntropy
from dptrain.nn.network import Network
from dptrain.nn.passes import Arrangement, Replica, ShardedPass, TargetForm, evaluation
from dptrain.own.model import OwnModel
from dptrain.own.network import OwnNetwork, SampleForm, Seeds
from dptrain.own.passes import OwnReplica
from tests.own.nets import Net, Regression

RANDOM = np.random.default_rng(3)
ROWS = 13
X = RANDOM.standard_normal((ROWS, 4, 5))
LABELS = np.arange(ROWS) % 3
CLASSES = TargetForm((), np.dtype(np.int64))


def network(subject: Any, form: SampleForm) -> OwnNetwork:
    model = OwnModel(subject, type(subject).__name__)
    return OwnNetwork("nets.py:Net", {k: v.shape for k, v in model.params.items()}, form, model)


def own(subject: Any, dtype: Any = np.float64, flat: bool = False) -> tuple[OwnNetwork, OwnReplica]:
    found = network(subject, SampleForm((20,), 3, flat))
    weights = found.initial_parameters(0, np.dtype(dtype))
    return found, OwnReplica(found, (4, 5), [weights], CLASSES, seed=5)


def filled(found: ShardedPass, x: Any = X, t: Any = LABELS) -> ShardedPass:
    for block, x_in, t_in in zip(found.blocks, found.inputs, found.targets, strict=True):
        rows = slice(block.start, block.start + block.shards * block.rows)
        x_in.reshape(-1)[:] = x[rows].reshape(-1)
        t_in[...] = t[rows]
    return found


def computed(found: ShardedPass, step: int = 0) -> tuple[Any, float]:
    found.moment.step = step
    (loss,) = found.summed_losses(found.forward())
    found.backward()
    return found.gradients[0].copy(), loss


def flattened(gradients: Mapping[str, Any]) -> Any:
    return np.concatenate([np.ravel(gradients[k]) for k in ("W1", "b1", "W2", "b2")])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("shards", [1, 4, 5, 13])
def test_shards_count_by_their_rows(shards: int, flat: bool) -> None:
    subject = Net()
    _, replica = own(subject, flat=flat)
    gradient, loss = computed(filled(replica.pass_over(Arrangement(ROWS, shards, 0, shards))))
    rows, targets = X.reshape(ROWS, 20), np.eye(3)[LABELS]
    np.testing.assert_allclose(gradient, flattened(subject.gradient(rows, targets)), atol=1e-12)
    assert loss == pytest.approx(subject.loss(rows, targets), abs=1e-12)


def test_as_the_network_of_layers_with_the_same_weights() -> None:
    subject = Net()
    found, replica = own(subject)
    arrangement = Arrangement(ROWS, 4, 0, 4)
    gradient, loss = computed(filled(replica.pass_over(arrangement)))
    layers = Network(20, [Dense(7), ReLU(), Dense(3)])
    same = Replica(layers, SoftmaxCrossEntropy(), replica.versions, CLASSES)
    expected, expected_loss = computed(filled(same.pass_over(arrangement), X.reshape(ROWS, 20)))
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)
    assert loss == pytest.approx(expected_loss, rel=1e-14)
    assert [t.decays for t in found.all_tensors()] == [True, False, True, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("drop", [False, True])
def test_the_same_bits_whoever_has_which_shards(dtype: Any, drop: bool) -> None:
    subject = Net(drop=drop)
    _, whole = own(subject, dtype)
    all_shards = filled(whole.pass_over(Arrangement(ROWS, 4, 0, 4)))
    expected, loss = computed(all_shards, 6)
    halves = []
    for first, last in ((2, 4), (0, 2)):  # the last first: what was drawn before does not matter
        _, replica = own(subject, dtype)
        halves.append(computed(filled(replica.pass_over(Arrangement(ROWS, 4, first, last))), 6))
    assert (halves[1][0] + halves[0][0]).tobytes() == expected.tobytes()
    assert halves[1][1] + halves[0][1] == loss
    again, _ = computed(filled(whole.pass_over(Arrangement(ROWS, 4, 0, 4))), 7)
    assert drop == (again.tobytes() != expected.tobytes())


def test_every_shard_of_every_step_draws_other_numbers() -> None:
    seeds = Seeds(2**64 - 1)
    found = {seeds.training(step, 4, shard) for step in range(50) for shard in range(4)}
    assert len(found | {seeds.evaluation}) == 201
    assert all(0 <= seed < 2**32 for seed in found)
    assert Seeds(1).training(0, 4, 0) != Seeds(2).training(0, 4, 0)


def test_the_ready_groups_come_last_first_with_their_sums_done() -> None:
    _, replica = own(Net())
    each = filled(replica.pass_over(Arrangement(ROWS, 4, 0, 4)))
    each.forward()
    seen: list[int] = []
    each.backward(seen.append)
    assert seen == [3, 2, 1, 0]


def test_an_evaluation_counts_rows() -> None:
    subject = Net()
    _, replica = own(subject)
    found = filled(replica.pass_over(evaluation(ROWS)))
    rows = X.reshape(ROWS, 20)
    assert found.forward() == [subject.loss(rows, np.eye(3)[LABELS]) * ROWS]
    assert found.correct() == [int((subject.predict(rows).argmax(axis=1) == LABELS).sum())]


def test_flat_real_targets_and_rows_that_cannot_be_changed() -> None:
    subject = Regression()
    found = network(subject, SampleForm((4, 5), 0, flat=True))
    assert not found.scores
    weights = found.initial_parameters(0, np.dtype(np.float64))
    targets = TargetForm((1,), np.dtype(np.float64))
    replica = OwnReplica(found, (4, 5), [weights], targets)
    t = X.sum(axis=(1, 2)).reshape(-1, 1)
    each = filled(replica.pass_over(Arrangement(ROWS, 4, 0, 4)), X, t)
    gradient, _ = computed(each)
    expected = subject.gradient(X, t.reshape(-1))
    np.testing.assert_allclose(gradient, [*expected["w"], *expected["b"]], atol=1e-12)
    subject.gradient = lambda x, _: x.fill(0)  # type: ignore[method-assign,assignment]
    again = OwnReplica(network(subject, found.form), (4, 5), [weights], targets)
    each = filled(again.pass_over(Arrangement(ROWS, 4, 0, 4)), X, t)
    with pytest.raises(OwnCodeError, match="read-only"):
        each.forward()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("input", (3, "input", "value")),
        ("weights", (0, "W2", "weights")),
        ("loss", (0, "loss", "value")),
    ],
)
def test_trouble(where: str, expected: tuple[Any, ...]) -> None:
    subject = Net()
    found, replica = own(subject)
    each = filled(replica.pass_over(Arrangement(ROWS, 4, 0, 4)))
    if where == "input":
        each.inputs[-1][-1, 0, 0] = np.inf
    elif where == "weights":
        found.views(replica.versions[0])["W2"][0, 0] = np.nan
    else:
        found.views(replica.versions[0])["W2"][...] = 1e308
    with np.errstate(all="ignore"):
        each.forward()
    assert each.trouble() == expected
