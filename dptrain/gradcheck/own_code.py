"""What only code of the user's own can have wrong: memory, means over rows, and float32."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import LOSS, Comparison, compare, compare_numbers
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.oracles.noise import measured
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.verdict import Verdict
from dptrain.own.dry_run import findings_of
from dptrain.own.network import OwnNetwork
from dptrain.own.row_tests import ORDER, TOGETHER

Array = NDArray[Any]

# The float64 gradient is computed with weights that are moved by float32's roundoff so often; what
# float32 makes of it may differ by so many times as much as these do.
DRAWS, SAFETY = 8, 64
# Parts of the weights at which a loss shows what it draws.
SMALLER = (0.1, 0.01)
# Where that is not enough, so many times as often and as far.
FURTHER = 8
# Float32 may change a loss by so much.
CLOSE = 1e-3


def narrow(job: Job) -> list[str]:
    """Return which ``params`` of a network of the user's own have less than float64."""
    assert isinstance(job.network, OwnNetwork)
    return [name for name, a in job.network.model.params.items() if a.dtype.itemsize < 8]


def widened(job: Job) -> Job | None:
    """Return a job with a copy of the network whose ``params`` are float64 arrays.

    None where the code cannot be copied, or does not take them: it raises, or finds another loss.
    """
    assert isinstance(job.network, OwnNetwork)
    other = copy.copy(job)
    weights = job.initial_parameters()
    try:
        other.network = job.network.with_code(job.network.model.with_arrays(float))
        found, wanted = (Local(each).loss(weights, 0) for each in (other, job))
    except Exception:  # noqa: BLE001 - of copying somebody's object, or of its code
        return None
    close = np.isclose(found, wanted, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    return other if close else None


class OwnCode:
    """Code of the user's own at some weights, called for the rows of a step."""

    def __init__(self, local: Local, parameters: Array, step: int, where: str) -> None:
        """Bind.

        Args:
            local: the job in this process.
            parameters: flat ``(size,)``, in the job's dtype.
            step: whose minibatch.
            where: as of `Comparison`.
        """
        self._local = local
        self._parameters = parameters
        self._step = step
        self._where = where
        self._tensors = [t for t in local.job.network.all_tensors() if t.trained]
        assert isinstance(local.job.network, OwnNetwork)
        self._network = local.job.network

    def all(self) -> Iterator[Comparison]:
        """Yield what is compared in any dtype, and the rows in float64."""
        yield from self._repeatable()
        yield from self._called()
        yield from self._kept()
        if self._local.job.dtype == np.float64:
            yield self._rows()

    def _repeatable(self) -> Iterator[Comparison]:
        """Compare loss and gradient of two calls with the same weights and rows."""
        first, again = (self._local.analytic(self._parameters, self._step) for _ in range(2))
        for what, tensors, a, b in (
            ("loss", [LOSS], np.array([first.loss]), np.array([again.loss])),
            ("gradient", self._tensors, first.gradient, again.gradient),
        ):
            name = f"{what} called again = called once"
            found = compare(name, "analytic", self._where, tensors, b, a, 0.0)
            sentence = (
                f"two calls with the same weights and rows give another {what}: the code keeps "
                "something from call to call, or draws random numbers from a generator of its own"
            )
            yield _put_down(found, "not-repeatable", sentence)
            if found.verdict is Verdict.FAIL:
                return

    def _called(self) -> Iterator[Comparison]:
        """Compare what one call leaves behind, and what it draws.

        A call must leave the weights as they are; and what is drawn anew in every call, such as the
        mask of dropout, must be in the loss if it is in the gradient.
        """
        (loss, gradients, changed), (other, others, _) = (
            self._local.called(self._parameters, self._step, seed) for seed in (0, 1)
        )
        pairs = {name: (float(name in changed), 0.0) for name in gradients}
        name = "weights after a call = before"
        found = compare_numbers(name, "analytic", self._where, pairs)
        names = ", ".join(changed)
        sentence = f"the code changes the weights {names} itself, in a call of gradient"
        yield _put_down(found, "weights-changed", sentence)
        if loss == other and not self._draws():
            name = "gradient with other random numbers = the same, as the loss is"
            why = (
                "the gradient of {} depends on random numbers, such as a mask of dropout, that are "
                "not in the loss"
            )
            yield self._alike(name, gradients, others, "random-gradient", why)

    def _draws(self) -> bool:
        """Return whether the loss depends on random numbers at smaller weights.

        Where large ones saturate every row, it may be the same with any mask.
        """
        for part in SMALLER:
            moved = self._parameters.copy()
            for t in self._tensors:
                moved[t.start : t.stop] *= part
            losses = [self._local.called(moved, self._step, seed)[0] for seed in (0, 1)]
            if losses[0] != losses[1]:
                return True
        return False

    def _kept(self) -> Iterator[Comparison]:
        """Compare gradients of two calls of which the second has the state the first has left.

        Where the loss is the same, as with the running averages of batch normalisation, which are
        not used in training, the gradient must be, too.
        """
        memory = self._network.model.memory
        if not memory.shapes:
            return
        loss, gradients, _ = self._local.called(self._parameters, self._step, 0)
        later = self._parameters.copy()
        places = self._network.views(later)
        for name, value in zip(memory.shapes, self._network.model.state(), strict=True):
            np.copyto(places[name], value, casting="same_kind")
        other, others, _ = self._local.called(later, self._step, 0)
        if loss == other:
            name = "gradient after another call = before, as the loss is"
            why = (
                "the gradient of {} depends on what an earlier call has left in "
                f"{', '.join(memory.forms)}, and the loss does not: is it added up instead of "
                "replaced?"
            )
            yield self._alike(name, gradients, others, "stale-gradient", why)

    def _alike(
        self, name: str, a: Mapping[str, Array], b: Mapping[str, Array], kind: str, why: str
    ) -> Comparison:
        """Compare the gradients of two calls bit by bit; ``why`` has a place for whose differ."""
        differing = [key for key, g in a.items() if not np.array_equal(g, b[key])]
        pairs = {key: (float(key in differing), 0.0) for key in a}
        found = compare_numbers(name, "analytic", self._where, pairs)
        return _put_down(found, kind, why.format(", ".join(differing)))

    def _rows(self) -> Comparison:
        """Compare the loss of rows that are there twice with that of the rows once.

        Of a mean it is the same. Rows that are computed together, as by batch normalisation, may be
        meant, and their gradient may be right: that is only remarked upon. A gradient that is no
        mean while the loss is one fails where it is compared with numbers.
        """
        batch = self._local.batch(self._step)
        x, t = (np.concatenate(list(each)) for each in (batch.inputs, batch.targets))
        model = self._network.model.copied() or self._network.model
        model.load(list(self._network.views(self._parameters).values()))
        form = self._network.form
        with np.errstate(all="ignore"):
            findings = findings_of(model, form.rows(x), form.goals(t, x.dtype))
        meant = [each for each in findings if each.kind in (ORDER, TOGETHER)]
        wrong = [each for each in findings if each.what == "loss" and each not in meant]
        pair = (wrong[0].found, wrong[0].wanted) if wrong else (0.0, 0.0)
        name = "loss of the rows twice over = of the rows"
        found = compare_numbers(name, "analytic", self._where, {"loss": pair})
        depends = "the weights depend on the"
        for each in wrong[:1]:
            sentence = f"{each.sentence}; {depends} number of shards and of rows"
            found = _put_down(found, f"rows-{each.kind}", sentence)
        return found._replace(remark="; ".join(f"{e.sentence}; {depends} shards" for e in meant))

    def in_float32(self, exact: Local, seed: int) -> Comparison:
        """Compare the gradient in float32 with that in float64, at the same weights.

        There are no formulas to bound its rounding, so this is estimated: by how much the float64
        gradient moves if all weights are moved at random by float32's roundoff.

        Args:
            exact: the same job in float64.
            seed: of the movements.
        """
        weights = self._parameters.astype(np.float32)
        right = exact.analytic(weights.astype(float), self._step).gradient
        found = self._local.analytic(weights, self._step).gradient.astype(float)
        for wider in (False, True):  # where a kink or a sum that is 0 may be what differs
            tolerance = self._float32_room(exact, weights.astype(float), right, seed, wider=wider)
            name = "analytic in float32 = in float64"
            comparison = compare(
                name, "analytic", self._where, self._tensors, found, right, tolerance
            )
            if comparison.verdict is not Verdict.FAIL:
                break
        wrong = ", ".join(t.tensor for t in comparison.tensors if t.failed)
        what = f"the gradient of {wrong} is wrong in float32 only"
        sentence = f"{what}: look for what depends on dtype"
        return _put_down(comparison, "float32-only", sentence)

    def _float32_room(
        self, exact: Local, weights: Array, right: Array, seed: int, *, wider: bool
    ) -> Array:
        """Return by how much each element may differ in float32, ``(size,)``.

        ``wider`` looks for kinks somewhat further away, and measures the float32 gradient's
        rounding.
        """
        unit, random = UNITS["float32"], np.random.default_rng(seed)
        spread = np.zeros(len(right))
        for _ in range(FURTHER * DRAWS if wider else DRAWS):
            far = unit * (FURTHER if wider else 1)
            moved = weights * (1 + far * random.choice((-1.0, 1.0), len(weights)))
            there = exact.analytic(moved, self._step).gradient
            spread = np.maximum(spread, np.abs(there - right))
        if wider:

            def rounded(x: Array) -> Array:
                found = self._local.analytic(x.astype(np.float32), self._step).gradient
                return found.astype(float)

            spread = np.maximum(spread, measured(rounded, weights, seed))
        largest = float(np.abs(right).max(initial=0))
        room = np.zeros(len(right))
        for t in self._tensors:
            own = slice(t.start, t.stop)
            size = float(np.abs(right[own]).max())
            if size <= SAFETY * UNITS["float64"] * largest:  # a sum that cancels has no size
                size = largest
            room[own] = SAFETY * (spread[own].max() + unit * size)
        return room


def _put_down(found: Comparison, kind: str, sentence: str) -> Comparison:
    """Return a comparison with what it means where it fails."""
    return found._replace(diagnoses=(Diagnosis(kind, sentence, 0.0),))
