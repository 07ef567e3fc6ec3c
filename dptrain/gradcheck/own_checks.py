"""What only code of the user's own can have wrong: memory, means over rows, and float32."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import LOSS, Comparison, compare, compare_numbers
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.oracles.noise import measured
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.network import Tensor
from dptrain.own.network import OwnNetwork
from dptrain.own.rehearsal import findings_of
from dptrain.own.row_tests import ORDER, TOGETHER

Array = NDArray[Any]
Checked = Iterator[tuple[Comparison, list[Diagnosis]]]

# The float64 gradient is computed with weights that are moved by float32's roundoff so often; what
# float32 makes of it may differ by so many times as much as these do.
DRAWS, SAFETY = 8, 64
# Parts of the weights at which a loss shows what it draws.
SMALLER = (0.1, 0.01)
# Where that is not enough, so many times as often and as far.
FURTHER = 8


def check_repeatable(local: Local, parameters: Array, step: int, where: str) -> Checked:
    """Compare loss and gradient of two calls with the same weights and rows.

    Args:
        local: the job in this process.
        parameters: flat ``(size,)``.
        step: whose minibatch.
        where: as of `Comparison`.
    """
    tensors = [t for t in local.job.network.all_tensors() if t.trained]
    first, again = (local.analytic(parameters, step) for _ in range(2))
    pairs = (
        ("loss", [LOSS], np.array([first.loss]), np.array([again.loss])),
        ("gradient", tensors, first.gradient, again.gradient),
    )
    for what, which, a, b in pairs:
        found = compare(f"{what} called again = called once", "analytic", where, which, b, a, 0.0)
        sentence = (
            f"two calls with the same weights and rows give another {what}: the code keeps "
            "something from call to call, or draws random numbers from a generator of its own"
        )
        yield found, [Diagnosis("not-repeatable", sentence, 0.0)]
        if found.verdict is Verdict.FAIL:
            return


def check_called(local: Local, parameters: Array, step: int, where: str) -> Checked:
    """Compare what one call leaves behind, and what it draws; arguments as of `check_repeatable`.

    A call must leave the weights as they are; and what is drawn anew in every call, such as the
    mask of dropout, must be in the loss if it is in the gradient.
    """
    (loss, gradients, changed), (other, others, _) = (
        local.called(parameters, step, seed) for seed in (0, 1)
    )
    pairs = {name: (float(name in changed), 0.0) for name in gradients}
    found = compare_numbers("weights after a call = before", "analytic", where, pairs)
    sentence = f"the code changes the weights {', '.join(changed)} itself, in a call of gradient"
    yield found, [Diagnosis("weights-changed", sentence, 0.0)]
    if loss != other or _draws(local, parameters, step):
        return
    name = "gradient with other random numbers = the same, as the loss is"
    compared, drawn = _alike(name, where, gradients, others)
    sentence = (
        f"the gradient of {', '.join(drawn)} depends on random numbers, such as a mask of dropout, "
        "that are not in the loss"
    )
    yield compared, [Diagnosis("random-gradient", sentence, 0.0)]


def _alike(
    name: str, where: str, gradients: Mapping[str, Array], others: Mapping[str, Array]
) -> tuple[Comparison, list[str]]:
    """Compare the gradients of two calls bit by bit; return also which tensors' differ."""
    differing = [key for key, g in gradients.items() if not np.array_equal(g, others[key])]
    pairs = {key: (float(key in differing), 0.0) for key in gradients}
    return compare_numbers(name, "analytic", where, pairs), differing


def _draws(local: Local, parameters: Array, step: int) -> bool:
    """Return whether the loss depends on random numbers at smaller weights.

    Where large ones saturate every row, it may be the same with any mask.
    """
    for part in SMALLER:
        moved = parameters.copy()
        for t in local.job.network.all_tensors():
            if t.trained:
                moved[t.start : t.stop] *= part
        if local.called(moved, step, 0)[0] != local.called(moved, step, 1)[0]:
            return True
    return False


def check_state(local: Local, parameters: Array, step: int, where: str) -> Checked:
    """Compare gradients of two calls of which the second has the state that the first has left.

    Where the loss is the same, as with the running averages of batch normalisation, which are not
    used in training, the gradient must be, too. Arguments as of `check_repeatable`.
    """
    network = local.job.network
    assert isinstance(network, OwnNetwork)
    memory = network.model.memory
    if not memory.shapes:
        return
    loss, gradients, _ = local.called(parameters, step, 0)
    later = parameters.copy()
    for view, value in zip(
        [network.views(later)[name] for name in memory.shapes], network.model.state(), strict=True
    ):
        np.copyto(view, value, casting="same_kind")
    other, others, _ = local.called(later, step, 0)
    if loss != other:
        return
    name = "gradient after another call = before, as the loss is"
    compared, moved = _alike(name, where, gradients, others)
    sentence = (
        f"the gradient of {', '.join(moved)} depends on what an earlier call has left in "
        f"{', '.join(memory.forms)}, and the loss does not: is it added up instead of replaced?"
    )
    yield compared, [Diagnosis("stale-gradient", sentence, 0.0)]


def check_rows(local: Local, parameters: Array, step: int, where: str) -> Checked:
    """Compare the loss of rows that are there twice with that of the rows once.

    Of a mean it is the same. Rows that are computed together, as by batch normalisation, may be
    meant, and their gradient may be right: that is only remarked upon. A gradient that is no mean
    while the loss is one fails where it is compared with numbers. Arguments as of
    `check_repeatable`.
    """
    network = local.job.network
    assert isinstance(network, OwnNetwork)
    batch = local.batch(step)
    x, t = (np.concatenate(list(each)) for each in (batch.inputs, batch.targets))
    model = network.model.copied() or network.model
    model.load(list(network.views(parameters).values()))
    with np.errstate(all="ignore"):
        findings = findings_of(model, network.form.rows(x), network.form.goals(t, x.dtype))
    meant = [each for each in findings if each.kind in (ORDER, TOGETHER)]
    wrong = [each for each in findings if each.what == "loss" and each not in meant]
    pair = (wrong[0].found, wrong[0].wanted) if wrong else (0.0, 0.0)
    name = "loss of the rows twice over = of the rows"
    remark = "; ".join(f"{each.sentence}; the weights depend on the shards" for each in meant)
    yield (
        compare_numbers(name, "analytic", where, {"loss": pair})._replace(remark=remark),
        [
            Diagnosis(
                f"rows-{each.kind}",
                f"{each.sentence}; the weights depend on the number of shards and of rows",
                0.0,
            )
            for each in wrong
        ],
    )


def check_float32(
    local: Local, exact: Local, parameters: Array, step: int, where: str, seed: int
) -> Checked:
    """Compare the gradient in float32 with that in float64, at the same weights.

    There are no formulas to bound its rounding, so this is estimated: by how much the float64
    gradient moves if all weights are moved at random by float32's roundoff.

    Args:
        local: the job in float32.
        exact: the same in float64.
        parameters: float32, flat ``(size,)``.
        step: whose minibatch.
        where: as of `Comparison`.
        seed: of the movements.
    """
    tensors = [t for t in local.job.network.all_tensors() if t.trained]
    right = exact.analytic(parameters.astype(float), step).gradient
    found = local.analytic(parameters, step).gradient.astype(float)
    for wider in (False, True):  # where a kink or a sum that is 0 may be what differs
        tolerance = _float32_room(local, exact, parameters, step, seed, tensors, wider=wider)
        name = "analytic in float32 = in float64"
        comparison = compare(name, "analytic", where, tensors, found, right, tolerance)
        if comparison.verdict is not Verdict.FAIL:
            break
    wrong = ", ".join(t.tensor for t in comparison.tensors if t.failed)
    sentence = f"the gradient of {wrong} is wrong in float32 only: look for what depends on dtype"
    yield comparison, [Diagnosis("float32-only", sentence, 0.0)]


def _float32_room(
    local: Local,
    exact: Local,
    parameters: Array,
    step: int,
    seed: int,
    tensors: Sequence[Tensor],
    *,
    wider: bool,
) -> Array:
    """Return by how much each element may differ in float32, ``(size,)``.

    ``wider`` looks for kinks somewhat further away, and measures the float32 gradient's rounding.
    """
    unit, random = UNITS["float32"], np.random.default_rng(seed)
    weights = parameters.astype(float)
    right = exact.analytic(weights, step).gradient
    spread = np.zeros(len(right))
    for _ in range(FURTHER * DRAWS if wider else DRAWS):
        far = unit * (FURTHER if wider else 1)
        moved = weights * (1 + far * random.choice((-1.0, 1.0), len(weights)))
        spread = np.maximum(spread, np.abs(exact.analytic(moved, step).gradient - right))
    if wider:

        def rounded(x: Array) -> Array:
            return local.analytic(x.astype(parameters.dtype), step).gradient.astype(float)

        spread = np.maximum(spread, measured(rounded, weights, seed))
    largest = float(np.abs(right).max(initial=0))
    room = np.zeros(len(right))
    for t in tensors:
        own = slice(t.start, t.stop)
        size = float(np.abs(right[own]).max())
        if size <= SAFETY * UNITS["float64"] * largest:  # a sum that cancels has no size
            size = largest
        room[own] = SAFETY * (spread[own].max() + unit * size)
    return room
