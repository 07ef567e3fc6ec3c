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
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.distributed import Step, Way
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.zoo.bug import WORLD, Bug, Source
from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.gradcheck.zoo.habitats import AFTER_THE_REDUCE, HABITATS, RESUMED, weights
from dptrain.gradcheck.zoo.runner import PROGRAM
from dptrain.gradcheck.zoo.source import StaleSourceError, changed, exchanged, function_at, given
from dptrain.launch.fork_server import ForkServer, fork_server
from dptrain.launch.local import WORKER, Program
from tests.gradcheck.mutation.battery import Told, carried_out

LR = 0.01  # of the plain habitat
N, ROWS = 13, np.array([3, 3, 3, 2, 2])  # in the first step, and of its shards
OF_RANKS = np.array([6, 6, 5, 5, 2])  # rows of the rank that has the shard
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
# Of the exchanges that a bug is in, the zoo takes the first; of layers any one tells enough.
OTHERS = [
    (bug, exchange)
    for bug in BUGS.values()
    if bug.place != "all" or bug.habitat in AFTER_THE_REDUCE
    for exchange in bug.exchange[not bug.equivalent :]
]


class Forks(NamedTuple):
    """What forks workers."""

    right: Program
    wrong: Program


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    one = threadpool_limits(limits=1, user_api="blas")
    with one, fork_server(WORKER) as right, fork_server(PROGRAM) as wrong:
        yield Forks(right, wrong)


def infected(bug: Bug, exchange: str, forks: Forks) -> tuple[Told, list[Step]]:
    """Return what becomes of a bug's habitat with the bug."""
    assert isinstance(forks.wrong, ForkServer)
    worker = forks.right if bug.place == "coordinator" else forks.wrong.given(bug.name)
    with given(changed(bug.sources if bug.place != "worker" else ())):
        return carried_out(bug.habitat, Way(exchange, WORLD), worker, RESUMED.get(bug.habitat, 0))


@cache
def clean(habitat: str) -> Told:
    with np.errstate(all="ignore"):
        return carried_out(habitat, Way("inline", 1), WORKER, RESUMED.get(habitat, 0))[0]


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
    honest, before = function.__code__, additions(4)
    with given(changed([Source("arithmetic/tree.py:additions", "stride *= 2", "stride *= 4")])):
        assert additions(4) != before
    assert additions(4) == before
    assert function.__code__ is honest


@pytest.mark.parametrize("exchange", ["shared", "star"])
def test_without_a_bug_the_workers_compute_what_one_process_does(
    exchange: str, forks: Forks
) -> None:
    assert carried_out("plain", Way(exchange, WORLD), forks.right)[0] == clean("plain")


@pytest.mark.parametrize(("bug", "exchange"), OTHERS, ids=lambda each: getattr(each, "name", each))
def test_a_bug_changes_bits_unless_it_is_equivalent(bug: Bug, exchange: str, forks: Forks) -> None:
    assert (infected(bug, exchange, forks)[0] == clean(bug.habitat)) == bug.equivalent


@pytest.mark.parametrize("name", [bug.name for bug in BUGS.values() if bug.kind == "race"])
def test_a_race_is_lost_in_the_same_way_every_time(name: str, forks: Forks) -> None:
    bug = BUGS[name]
    once, again = (infected(bug, bug.exchange[0], forks)[0] for _ in range(2))
    assert once == again != clean(bug.habitat)


@cache
def shard_gradients() -> np.ndarray[Any, Any]:
    """Return what each shard adds to the first gradient of the plain habitat, (shards, size)."""
    job = Subject(build(Experiment, HABITATS["plain"], "plain")).job()
    rank = Rank(job, [weights("plain", job)])
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
    _, (first, *_) = infected(BUGS[name], BUGS[name].exchange[0], forks)
    shares = np.broadcast_to(np.asarray(SHARES[name], float), len(ROWS))
    moved = first.before.parameters - first.after.parameters
    np.testing.assert_allclose(moved, LR * shares @ shard_gradients(), rtol=0, atol=1e-14)


def test_a_worker_that_is_started_has_the_bug_as_one_that_is_forked(forks: Forks) -> None:
    bug = BUGS["no-first-broadcast"]
    started, _ = carried_out(bug.habitat, Way("star", WORLD), (*PROGRAM, bug.name))
    assert started == infected(bug, "star", forks)[0]
