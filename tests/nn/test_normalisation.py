"""Batch and layer normalisation, chains and residual blocks, against plain networks and PyTorch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.activations import ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Chain, Residual
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.passes import evaluation
from tests.nn import reference
from tests.nn.build import CLASSIFY, Problem, problem
from tests.nn.losses import cross_entropies

NETWORKS: dict[str, list[AnyLayer]] = {
    "batch norm": [Dense(5), BatchNorm(), Sigmoid(), Dense(3)],
    "batch norm first": [BatchNorm(), Dense(3)],
    "batch norm last": [Dense(3), BatchNorm()],
    "batch norm in place": [Dense(5), BatchNorm(), BatchNorm(epsilon=0.1), Tanh(), Dense(3)],
    "batch norm on what is kept": [Dense(5), Sigmoid(), BatchNorm(), Dense(3)],
    "layer norm": [Dense(5), LayerNorm(), Tanh(), Dense(3)],
    "layer norm first": [LayerNorm(), Dense(3)],
    "chain": [Chain([Dense(5), Chain([Sigmoid(), Dense(4)])]), Tanh(), Dense(3)],
    "residual": [Dense(4), Residual([Tanh(), Dense(4)]), Dense(3)],
    "residual first": [Residual([Sigmoid(), Dense(4)]), Dense(3)],
    "residual last": [Dense(3), Residual([Dense(3)])],
    "residual of nothing": [Dense(3), Residual([Sigmoid()])],
    "shortcut": [Dense(4), Residual([Sigmoid(), Dense(5)], [Tanh(), Dense(5)]), Tanh(), Dense(3)],
    "both in a residual": [
        Dense(4),
        Residual([BatchNorm(), Tanh(), Chain([Dense(4), LayerNorm()])], [BatchNorm()]),
        Residual([Dense(4), Residual([Sigmoid(), Dense(4), BatchNorm()])]),
        Dense(3),
    ],
}  # fmt: skip
SHARDS = {"uneven": (11, 4), "empty": (3, 5), "one": (6, 1)}


def trained(network: Network) -> Any:
    """Return which elements of the flat vector the optimizer changes."""
    found = np.zeros(network.size, bool)
    for tensor in network.all_tensors():
        found[tensor.start : tensor.stop] = tensor.trained
    return found


@pytest.mark.parametrize("name", list(NETWORKS))
def test_gradients_are_those_of_the_plain_network(name: str) -> None:
    for what, (rows, shards) in SHARDS.items():
        task = problem(NETWORKS[name], 4, rows, seed=3, labels=True)
        wanted = reference.gradient(
            task.network.layers, task.parameters, task.x, task.t, cross_entropies
        )
        ours = trained(task.network)
        np.testing.assert_allclose(
            task.gradient(shards)[ours], wanted[ours], rtol=1e-9, atol=1e-12, err_msg=what
        )


@pytest.mark.parametrize("name", list(NETWORKS))
def test_float32_is_the_same_up_to_its_rounding(name: str) -> None:
    double = problem(NETWORKS[name], 4, 11, seed=3, labels=True)
    single = problem(NETWORKS[name], 4, 11, seed=3, labels=True, dtype="float32")
    exact = double.gradient(4)
    np.testing.assert_allclose(single.gradient(4), exact, rtol=0, atol=1e-4 * np.abs(exact).max())


@st.composite
def rows_of_layers(draw: st.DrawFn, depth: int = 2) -> list[AnyLayer]:
    """Any row of layers that keeps four features."""
    found: list[AnyLayer] = []
    for _ in range(draw(st.integers(1, 4))):
        simple: list[AnyLayer] = [
            Sigmoid(), ReLU(), Dense(4), Flatten(), BatchNorm(), LayerNorm(epsilon=0.1)
        ]  # fmt: skip
        kind = draw(st.sampled_from(["simple", "simple", "chain", "residual"]))
        if kind == "simple" or not depth:
            found.append(draw(st.sampled_from(simple)))
        elif kind == "chain":
            found.append(Chain(draw(rows_of_layers(depth - 1))))
        else:
            shortcut = draw(st.one_of(st.just([]), rows_of_layers(depth - 1)))
            found.append(Residual(draw(rows_of_layers(depth - 1)), shortcut))
    return found


@settings(max_examples=40)
@given(rows_of_layers(), st.integers(2, 7), st.integers(1, 5))
def test_no_layer_overwrites_what_another_needs(
    layers: list[AnyLayer], rows: int, shards: int
) -> None:
    task = problem([*layers, Dense(4)], 4, rows, seed=4, labels=True)
    ours = trained(task.network)
    found = task.filled(shards)
    sums = found.forward()
    plain = reference.activations(task.network.layers, task.parameters, task.x)[-1]
    outputs = np.concatenate([y.reshape(-1, y.shape[-1]) for y in found.outputs])
    np.testing.assert_allclose(outputs, plain, rtol=1e-7, atol=1e-9)
    found.backward()
    first = found.gradients[0].copy()
    wanted = reference.gradient(
        task.network.layers, task.parameters, task.x, task.t, cross_entropies
    )
    if reference.margin(task.network.layers, task.parameters, task.x) > 1e-6:
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(first[ours], wanted[ours], rtol=1e-5, atol=1e-7 * scale)
    assert found.forward() == sums
    found.backward()
    assert found.gradients[0].tobytes() == first.tobytes()


def test_running_averages_are_given_the_whole_minibatchs_moments() -> None:
    task = problem([BatchNorm(), Dense(3)], 4, 11, seed=2, labels=True)
    task.x += [0, 10, -100, 1000]
    for shards in (1, 4, 20):
        found = Network(4, [BatchNorm(), Dense(3)]).views(task.gradient(shards))
        np.testing.assert_allclose(found["batchnorm1.mean"], task.x.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(
            found["batchnorm1.variance"], task.x.var(axis=0, ddof=1), rtol=1e-12
        )


def test_features_are_normalised_over_all_positions() -> None:
    task = problem([BatchNorm(), Flatten(), Dense(3)], (2, 3, 4), 5, seed=2, labels=True)
    flat = task.x.reshape(-1, 4)
    found = task.network.views(task.gradient(3))
    np.testing.assert_allclose(found["batchnorm1.mean"], flat.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found["batchnorm1.variance"], flat.var(axis=0, ddof=1), rtol=1e-12)


def test_large_means_do_not_cancel_the_variance() -> None:
    task = problem([BatchNorm(), Dense(3)], 2, 40, seed=2, labels=True, dtype="float32")
    task.x += 1000  # Σx² - (Σx)²/n in float32 would leave nothing of a variance of 1
    exact = task.x.astype(np.float64).var(axis=0, ddof=1)
    found = task.network.views(task.gradient(4))["batchnorm1.variance"]
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_one_row_alone_leaves_the_running_variance_alone() -> None:
    task = problem([BatchNorm(), Dense(3)], 4, 1, seed=2, labels=True)
    found = task.network.views(task.gradient(4))
    before = task.network.views(task.parameters)["batchnorm1.variance"]
    np.testing.assert_array_equal(found["batchnorm1.variance"], before)
    assert np.isfinite(task.gradient(4)).all()


def evaluated(task: Problem) -> Any:
    found = task.replica.pass_over(evaluation(task.rows))
    found.inputs[0][...] = task.x
    return found.infer()[0][0].copy()


def test_outside_of_training_the_running_averages_count() -> None:
    task = problem([BatchNorm(epsilon=0.5), Dense(3)], 4, 6, seed=2, labels=True)
    views = task.network.views(task.parameters)
    views["batchnorm1.variance"][...] = [1, 2, 3, 4]
    normal = (task.x - views["batchnorm1.mean"]) / np.sqrt(views["batchnorm1.variance"] + 0.5)
    y = normal * views["batchnorm1.gamma"] + views["batchnorm1.beta"]
    expected = y @ views["dense1.W"] + views["dense1.b"]
    np.testing.assert_allclose(evaluated(task), expected, rtol=1e-12)


def ghost(layers: Sequence[AnyLayer], task: Problem, parts: list[slice]) -> Any:
    """Return the gradient of a network whose every shard is a minibatch of its own."""
    total = np.zeros(task.network.size)
    for part in parts:
        alone = reference.gradient(
            layers, task.parameters, task.x[part], task.t[part], cross_entropies
        )
        total += alone * (part.stop - part.start) / task.rows
    return total


def test_ghost_batch_norm_is_that_of_each_shard() -> None:
    task = problem([Dense(5), BatchNorm(sync=False), Tanh(), Dense(3)], 4, 11, seed=3, labels=True)
    plain: list[AnyLayer] = [Dense(5), BatchNorm(), Tanh(), Dense(3)]
    parts = [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 11)]
    ours = trained(task.network)
    np.testing.assert_allclose(
        task.gradient(4)[ours], ghost(plain, task, parts)[ours], rtol=1e-9, atol=1e-12
    )
    views = task.network.views(task.gradient(4))
    hidden = task.x @ task.network.views(task.parameters)["dense1.W"]
    hidden = hidden + task.network.views(task.parameters)["dense1.b"]
    means = sum(hidden[p].mean(axis=0) * len(hidden[p]) / 11 for p in parts)
    variances = sum(hidden[p].var(axis=0, ddof=1) * len(hidden[p]) / 11 for p in parts)
    np.testing.assert_allclose(views["batchnorm1.mean"], means, rtol=1e-12)
    np.testing.assert_allclose(views["batchnorm1.variance"], variances, rtol=1e-12)


def test_a_frozen_batch_norm_is_a_fixed_function() -> None:
    layers: list[AnyLayer] = [Dense(5), BatchNorm(), Tanh(), Dense(3)]
    task = Problem(Network(4, layers, freeze=["batchnorm1"]), CLASSIFY, 7, labels=True)
    task.network.views(task.parameters)["batchnorm1.variance"][...] = 2.0
    wanted = task.differences(4)
    ours = trained(task.network)
    np.testing.assert_allclose(task.gradient(4)[ours], wanted[ours], rtol=1e-6, atol=1e-8)


def test_nothing_is_computed_below_the_first_layer_that_learns() -> None:
    network = Network(4, [Dense(5), Tanh(), Dense(4), Tanh(), Dense(3)], ["dense1", "dense2.W"])
    task = Problem(network, CLASSIFY, 7, labels=True)
    free = Problem(Network(4, network.layers), CLASSIFY, 7, labels=True)
    found, wanted = network.views(task.gradient(3)), network.views(free.gradient(3))
    np.testing.assert_array_equal(found["dense1.W"], 0)
    for name in ("dense2.b", "dense3.W", "dense3.b"):
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (["dense3"], "freeze='dense3' is no layer"),
        (["dens"], "freeze='dens' is no layer"),
        (["dense11"], "did you mean 'dense1'"),
        (["dense1", "dense2", "batchnorm1"], "leaves nothing to train"),
    ],
)
def test_freezing_what_cannot_be(freeze: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Network(4, [Dense(5), BatchNorm(), Dense(3)], freeze)


def test_names_say_where_a_layer_stands() -> None:
    network = Network(4, [Chain([Dense(4), Chain([Dense(4)])]), Residual([Dense(4)], [Dense(4)])])
    assert [t.name for t in network.all_tensors()] == [
        "chain1.dense1.W",
        "chain1.dense1.b",
        "chain1.chain1.dense1.W",
        "chain1.chain1.dense1.b",
        "residual1.dense1.W",
        "residual1.dense1.b",
        "residual1.shortcut.dense1.W",
        "residual1.shortcut.dense1.b",
    ]


def test_ways_of_a_residual_must_end_alike() -> None:
    with pytest.raises(ShapeError, match=r"residual1: .*end in shape \(5,\), its shortcut in \(4,"):
        Network(4, [Residual([Dense(5)]), Dense(3)])
    with pytest.raises(ShapeError, match="residual1: dense1: a dense layer takes flat samples"):
        Network((2, 2), [Residual([Dense(5)]), Dense(3)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Chain([]),
        lambda: Residual([]),
        lambda: Residual(Dense(3)),  # type: ignore[arg-type]
        lambda: Chain([3]),  # type: ignore[list-item]
        lambda: BatchNorm(momentum=1.0),
        lambda: BatchNorm(epsilon=0.0),
        lambda: LayerNorm(epsilon=-1.0),
    ],
)
def test_bad_settings_are_refused(make: Any) -> None:
    with pytest.raises(UsageError):
        make()


class TestTorch:
    """The same modules in PyTorch, float64."""

    def test_batch_norm_and_its_running_averages(self) -> None:
        torch = pytest.importorskip("torch")
        task = problem([BatchNorm(momentum=0.7), Dense(3)], 4, 11, seed=2, labels=True)
        views = task.network.views(task.parameters)
        module = torch.nn.BatchNorm1d(4, momentum=0.3).double()
        dense = torch.nn.Linear(4, 3).double()
        pairs = [
            (module.weight, views["batchnorm1.gamma"]),
            (module.bias, views["batchnorm1.beta"]),
            (dense.weight, views["dense1.W"].T),
            (dense.bias, views["dense1.b"]),
        ]
        with torch.no_grad():
            for theirs, ours in pairs:
                theirs.copy_(torch.from_numpy(ours.copy()))
        loss = torch.nn.functional.cross_entropy(
            dense(module(torch.from_numpy(task.x))), torch.from_numpy(task.t)
        )
        loss.backward()
        found = task.network.views(task.gradient(4))
        np.testing.assert_allclose(task.loss(4), loss.item(), rtol=1e-12)
        for (theirs, _), name in zip(
            pairs, ["batchnorm1.gamma", "batchnorm1.beta", "dense1.W", "dense1.b"], strict=True
        ):
            wanted = theirs.grad.numpy().T if name == "dense1.W" else theirs.grad.numpy()
            np.testing.assert_allclose(found[name], wanted, rtol=1e-9, atol=1e-13)
        # PyTorch begins with 0 and 1, and keeps 0.7
        np.testing.assert_allclose(
            found["batchnorm1.mean"] * 0.3, module.running_mean.numpy(), rtol=1e-12
        )
        np.testing.assert_allclose(
            0.7 + found["batchnorm1.variance"] * 0.3, module.running_var.numpy(), rtol=1e-12
        )

    def test_layer_norm(self) -> None:
        torch = pytest.importorskip("torch")
        task = problem([LayerNorm(), Dense(3)], 4, 11, seed=2, labels=True)
        views = task.network.views(task.parameters)
        x = torch.from_numpy(task.x)
        gamma, beta = (
            torch.tensor(views[f"layernorm1.{name}"], requires_grad=True)
            for name in ("gamma", "beta")
        )
        y = torch.nn.functional.layer_norm(x, (4,), gamma, beta)
        y = y @ torch.from_numpy(views["dense1.W"]) + torch.from_numpy(views["dense1.b"])
        torch.nn.functional.cross_entropy(y, torch.from_numpy(task.t)).backward()
        found = task.network.views(task.gradient(4))
        for theirs, name in ((gamma, "layernorm1.gamma"), (beta, "layernorm1.beta")):
            np.testing.assert_allclose(found[name], theirs.grad.numpy(), rtol=1e-10, atol=1e-14)
