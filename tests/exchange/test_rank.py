"""One rank by itself."""

from pathlib import Path

import pytest

from dptrain.exchange.rank import Rank
from tests.exchange.build import Data


@pytest.mark.parametrize(("first", "last"), [(0, 3), (2, 3), (1, 1)])
def test_an_evaluation_shows_life_after_every_piece(first: int, last: int, tmp_path: Path) -> None:
    experiment = {"dataset": "classes", "dtype": "float32", "model": "mlp:20-3", "steps": 1}
    job = Data(tmp_path, rows=1203).job(experiment)
    done: list[int] = []

    def alive(pieces: int = 0) -> None:
        done.append(pieces)

    rank = Rank(job, [job.initial_parameters()], alive=alive)
    rank.evaluate("train", first, last)
    assert done == list(range(1, last - first + 1))
