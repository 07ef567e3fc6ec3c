"""Every bug of the zoo fits the source, and does what its sentence says.

That all of them are found is what ``dptrain gradcheck --zoo`` says, which CI runs; here stand the
runs that it does not make.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dptrain.arithmetic.tree import additions
from dptrain.errors import DptrainError
from dptrain.exchange.engine import State
from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment, Settled
from dptrain.experiment.validate import build
from dptrain.gradcheck.distributed import Way, begin, engine, recording, steps
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.zoo.bug import WORLD, Bug, Source
from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.gradcheck.zoo.habitats import AFTER_THE_REDUCE, HABITATS, RESUMED, weights
from dptrain.gradcheck.zoo.runner import PROGRAM
from dptrain.gradcheck.zoo.source import StaleSourceError, changed, exchanged, function_at, given
from dptrain.launch.local import WORKER, Program
from dptrain.launch.nursery import Nursery, nursery

STEPS = 3
NOTHING = State(np.empty(0), [])
ROWS = np.array([3, 3, 3, 2, 2])  # of the shards of the first step
OF_RANKS = np.array([6, 6, 5, 5, 2])  # rows of the rank that has the shard
N = 13
# The share of each shard in the first gradient.
SHARES: dict[str, Any] = {
    "mean-of-means": N / (WORLD * OF_RANKS),
    "micro-batch-means": N / (len(ROWS) * ROWS),
    "sum-not-mean": N,
    "divided-twice": 1 / WORLD,
    "star-averaged-again": 1 / WORLD,
    "padding-counted": 13 / 15,
    "shard-dropped": [1, 1, 1, 0, 1],
    "shard-doubled": [1, 2, 1, 1, 1],
    "twice-and-never": [1, 1, 2, 2, 0],
    "output-aliases-input": [2, 2, 2, 2, 0],
    "read-before-arrived": [1, 1, 1, 1, 0],
    "star-first-for-all": [3, 3, 0, 0, 0],
    "reset-early": 0,
    "loss-sign": -1,
    "softmax-without-mean": N,
    "mean-twice": 1 / N,
}


class Forks(NamedTuple):
    """What forks workers."""

    right: Program
    wrong: Program

    def of(self, bug: Bug) -> Program:
        assert isinstance(self.wrong, Nursery)
        return self.right if bug.place == "coordinator" else self.wrong.given(bug.name)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    one = threadpool_limits(limits=1, user_api="blas")
    with one, nursery(WORKER) as right, nursery(PROGRAM) as wrong:
        yield Forks(right, wrong)


class Habitat(NamedTuple):
    """A habitat; where it can, its optimizer's state is the reduced gradient."""

    experiment: Settled
    subject: Subject
    begins: State

    @property
    def job(self) -> Job:
        """Return a new job, since also that may be made with a bug."""
        return self.subject.job(self.subject.experiment.dtype, self.experiment)


@cache
def habitat(name: str) -> Habitat:
    subject = Subject(build(Experiment, HABITATS[name], name))
    settled = subject.settled(subject.experiment.dtype)
    found = Habitat(settled if name in AFTER_THE_REDUCE else recording(settled), subject, NOTHING)
    state = begin(found.job, weights(name, found.job))
    for step in steps(InlineEngine(found.job, state.parameters, state.slots), 0, first(name)):
        state = step.after
    return found._replace(begins=state)


def first(name: str) -> int:
    return RESUMED.get(name, 0)


def outcome(name: str, way: Way, worker: Program = WORKER) -> tuple[list[Any], str]:
    """Return the gradients (or first moments) of a habitat's steps, and all that a run comes to."""
    place = habitat(name)
    job, data = place.job, place.subject.data(place.subject.experiment.dtype)
    gradients: list[Any] = []
    told: list[Any] = []
    try:
        with engine(job, data, way, place.begins, first(name), worker=worker) as found:
            for step in steps(found, first(name), STEPS):
                gradients += map(np.copy, step.after.slots[:1])
                arrays = (step.after.parameters, *step.after.slots)
                told.append((step.loss, *(each.tobytes() for each in arrays)))
            told.append(found.evaluate("train"))
    except DptrainError as error:
        told.append(type(error).__name__)
    return gradients, repr(told)


def infected(bug: Bug, exchange: str, forks: Forks) -> tuple[list[Any], str]:
    """Return the outcome of a bug's habitat with the bug."""
    habitat(bug.habitat)  # begins without
    with given(changed(bug.sources if bug.place != "worker" else ())):
        return outcome(bug.habitat, Way(exchange, WORLD), forks.of(bug))


@cache
def clean(name: str) -> tuple[list[Any], str]:
    with np.errstate(all="ignore"):
        return outcome(name, Way("inline", 1))


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_bug_fits_the_source(bug: Bug) -> None:
    assert any(changed(bug.sources, rank) for rank in range(WORLD))


def test_a_bug_that_does_not_fit_says_so() -> None:
    text = "def f(a):\n    if a:\n        a += 1\n        a += 1\n    return a\n"
    for old, times in (("a -= 1", 0), ("a += 1", 2), ("if a:\na += 1", 0)):
        with pytest.raises(StaleSourceError, match=rf"^x.py:f: .* stands there {times} times"):
            exchanged(text, Source("x.py:f", old, ""))
    with pytest.raises(StaleSourceError, match="no such function"):
        function_at("optim/rules.py:Adam.updated")
    twice = exchanged(text, Source("x.py:f", "a += 1\na += 1", "a += 2\nb = a\nif b:\n    b = 0"))
    inside = "        a += 2\n        b = a\n        if b:\n            b = 0\n"
    assert twice == f"def f(a):\n    if a:\n{inside}    return a\n"


def test_a_bug_is_put_back_and_what_it_has_left_in_caches_forgotten() -> None:
    function = function_at("arithmetic/tree.py:additions")
    honest = function.__code__
    before = additions(4)
    with given(changed([Source("arithmetic/tree.py:additions", "stride *= 2", "stride *= 4")])):
        assert additions(4) != before
    assert additions(4) == before
    assert function.__code__ is honest


# Of the exchanges that a bug is in, the zoo takes the first; of layers any one tells enough.
OTHERS = [
    (bug, exchange)
    for bug in BUGS.values()
    if bug.place != "all" or bug.habitat in AFTER_THE_REDUCE
    for exchange in bug.exchange[not bug.equivalent :]
]


@pytest.mark.parametrize(
    ("bug", "exchange"), OTHERS, ids=[f"{bug.name}-{exchange}" for bug, exchange in OTHERS]
)
def test_a_bug_changes_bits_unless_it_is_equivalent(bug: Bug, exchange: str, forks: Forks) -> None:
    assert (infected(bug, exchange, forks)[1] == clean(bug.habitat)[1]) == bug.equivalent


@pytest.mark.parametrize("name", [bug.name for bug in BUGS.values() if bug.kind == "race"])
def test_a_race_is_lost_in_the_same_way_every_time(name: str, forks: Forks) -> None:
    bug = BUGS[name]
    once, again = (infected(bug, bug.exchange[0], forks)[1] for _ in range(2))
    assert once == again != clean(bug.habitat)[1]


@cache
def shard_gradients() -> np.ndarray[Any, Any]:
    """Return what each shard adds to the first gradient of the plain habitat, (shards, size)."""
    place = habitat("plain")
    rank = Rank(place.job, [place.begins.parameters])
    found = []
    for shard in range(len(ROWS)):
        passed = rank.gather(Share(0, shard, shard + 1))
        rank.forward(passed)
        rank.backward(passed)
        found.append(passed.gradients[0].copy())
    return np.stack(found)


@pytest.mark.parametrize("name", SHARES)
def test_a_shard_has_the_share_in_the_first_gradient_that_the_bug_gives_it(
    name: str, forks: Forks
) -> None:
    bug, shards = BUGS[name], shard_gradients()
    gradients, _ = infected(bug, bug.exchange[0], forks)
    wanted = np.broadcast_to(np.asarray(SHARES[name], float), len(ROWS)) @ shards
    np.testing.assert_allclose(gradients[0], wanted, 1e-12, 1e-13 * np.abs(shards).max())


def test_a_mean_over_ranks_without_rows_is_too_small_in_the_third_step(forks: Forks) -> None:
    gradients, _ = infected(BUGS["nominal-world"], "shared", forks)
    np.testing.assert_allclose(gradients[2], clean("plain")[0][2] * 2 / 3, rtol=1e-12)


def test_a_worker_that_is_started_has_the_bug_as_one_that_is_forked(forks: Forks) -> None:
    bug = BUGS["no-first-broadcast"]
    started = outcome(bug.habitat, Way("star", WORLD), (*PROGRAM, bug.name))
    assert started[1] == infected(bug, "star", forks)[1]


@pytest.mark.parametrize("exchange", ["shared", "star"])
def test_without_a_bug_the_workers_compute_what_one_process_does(
    exchange: str, forks: Forks
) -> None:
    assert outcome("plain", Way(exchange, WORLD), forks.right)[1] == clean("plain")[1]
