"""One rank by itself, and what it tells of itself."""

import pytest

from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.rank import Rank, initial_state
from dptrain.experiment.job import Job
from tests.exchange.build import Data, Told


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    experiment = {"dataset": "classes", "dtype": "float32", "model": "mlp:20-3", "steps": 1}
    return Data(tmp_path_factory.mktemp("data"), rows=1203).job(experiment)


@pytest.mark.parametrize(("first", "last"), [(0, 3), (2, 3), (1, 1)])
def test_an_evaluation_shows_life_after_every_piece(first: int, last: int, job: Job) -> None:
    told = Told()
    rank = Rank(job, [job.initial_parameters()], alive=told)
    rank.evaluate("train", first, last)
    assert told.pieces == list(range(1, last - first + 1))


def test_an_evaluation_in_one_process_tells_how_far_it_has_come(job: Job) -> None:
    told = Told()
    InlineEngine(job, *initial_state(job)).evaluate("train", told)
    assert told.pieces == [1, 2, 3]
