"""Every bug of the zoo changes what a run computes, and what is labelled equivalent does not."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from dptrain.exchange.rank import Rank, Share
from dptrain.gradcheck.distributed import Way, engine, gradient_of, steps
from dptrain.gradcheck.zoo import whole
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.gradcheck.zoo.habitats import AFTER_THE_REDUCE, HABITATS
from dptrain.gradcheck.zoo.seams import WORLD
from tests.gradcheck.zoo_runs import Crowd, Habitat, Outcome, alone, habitat


def _exchanges(bug: Bug) -> tuple[str, ...]:
    """Return those to try: layers compute the same in both, so that one tells enough."""
    in_layers = bug.place == "all" and bug.habitat not in AFTER_THE_REDUCE
    return bug.exchange[:1] if in_layers else bug.exchange


# most bugs of whole runs change no step of a short one; the zoo itself finds them or fails
CASES = [
    (bug, exchange)
    for bug in BUGS.values()
    if bug not in whole.BUGS
    for exchange in _exchanges(bug)
]
BUG_CASES = pytest.mark.parametrize(
    ("bug", "exchange"), CASES, ids=[f"{bug.name}-{exchange}" for bug, exchange in CASES]
)
ROWS = np.array([3, 3, 3, 2, 2])  # of the shards of the first step
OF_RANKS = np.array([6, 6, 5, 5, 2])  # rows of the rank that has the shard
N = 13


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """Workers for all runs of this file."""
    found = Crowd(tmp_path_factory.mktemp("crowd"))
    yield found
    found.close()


@cache
def clean(name: str) -> tuple[Habitat, Outcome]:
    """Return a habitat, and what one process without a bug makes of it."""
    with np.errstate(all="ignore"):
        place = habitat(name, records=name not in AFTER_THE_REDUCE)
        return place, alone(place)


@pytest.mark.parametrize("name", HABITATS)
@pytest.mark.parametrize("exchange", ["shared", "star"])
def test_without_a_bug_the_workers_compute_what_one_process_does(
    crowd: Crowd, name: str, exchange: str
) -> None:
    place, wanted = clean(name)
    assert crowd.outcome(None, place, exchange) == wanted


@BUG_CASES
def test_a_bug_changes_bits_unless_it_is_equivalent(crowd: Crowd, bug: Bug, exchange: str) -> None:
    place, wanted = clean(bug.habitat)
    assert (crowd.outcome(bug, place, exchange) == wanted) == bug.equivalent


@pytest.mark.parametrize("exchange", ["shared", "star"])
def test_nothing_of_a_bug_stays_behind(crowd: Crowd, exchange: str) -> None:
    place, wanted = clean("plain")
    assert crowd.outcome(None, place, exchange) == wanted


@pytest.mark.parametrize("name", [bug.name for bug in BUGS.values() if bug.kind == "race"])
def test_a_race_is_lost_in_the_same_way_every_time(crowd: Crowd, name: str) -> None:
    bug = BUGS[name]
    place, _ = clean(bug.habitat)
    first, again = (crowd.outcome(bug, place, bug.exchange[0]) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("name", "share"),
    {
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
    }.items(),
)
def test_a_shard_has_the_share_in_the_first_gradient_that_the_bug_gives_it(
    crowd: Crowd, name: str, share: Any
) -> None:
    bug = BUGS[name]
    place, _ = clean("plain")
    found = crowd.outcome(bug, place, bug.exchange[0])
    gradient = np.frombuffer(found.steps[0][2][0])
    shards = shard_gradients(place)
    wanted = np.broadcast_to(np.asarray(share, float), len(ROWS)) @ shards
    np.testing.assert_allclose(gradient, wanted, rtol=1e-12, atol=1e-13 * np.abs(shards).max())


def test_a_mean_over_ranks_without_rows_is_too_small_in_the_third_step(crowd: Crowd) -> None:
    place, wanted = clean("plain")
    found = crowd.outcome(BUGS["nominal-world"], place, "shared")
    third, honest = (np.frombuffer(each.steps[2][2][0]) for each in (found, wanted))
    np.testing.assert_allclose(third, honest * 2 / 3, rtol=1e-12)


def shard_gradients(place: Habitat) -> np.ndarray[Any, Any]:
    """Return what each shard adds to the first gradient, ``(shards, size)``."""
    rank = Rank(place.job, [place.begins.parameters])
    found = []
    for shard in range(place.job.shards):
        passed = rank.gather(Share(0, shard, shard + 1))
        rank.forward(passed)
        rank.backward(passed)
        found.append(passed.gradients[0].copy())
    return np.stack(found)


@pytest.mark.parametrize(
    ("name", "exchange"), [("shard-dropped", "shared"), ("no-first-broadcast", "star")]
)
def test_the_worker_program_has_the_bug(crowd: Crowd, name: str, exchange: str) -> None:
    bug = BUGS[name]
    place, _ = clean(bug.habitat)
    program = ("-m", "dptrain.gradcheck.zoo.worker", name)
    way = Way(exchange, WORLD)
    with engine(place.job, place.data, way, place.begins, worker=program) as running:
        (step,) = steps(running, 0, 1)
    kept = crowd.outcome(bug, place, exchange)
    assert gradient_of(step).tobytes() == kept.steps[0][2][0]


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_patch_is_put_back(bug: Bug) -> None:
    patches = Patches()
    bug.patch(patches)
    replaced = [(owner, name, original) for owner, name, original in patches._undo]
    assert replaced
    patches.undo()
    for owner, name, original in replaced:
        assert owner.__dict__[name] is original


def test_the_catalogue_is_as_large_as_it_claims() -> None:
    real = [bug for bug in BUGS.values() if not bug.equivalent]
    assert len(real) >= 96
    assert sum(bug.place != "coordinator" for bug in real) >= 54
    assert sum(bug.equivalent for bug in BUGS.values()) >= 5
    assert {bug.habitat for bug in BUGS.values()} == set(HABITATS)
