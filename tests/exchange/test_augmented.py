"""Where augmentation stands in a run: training rows only, as they are gathered."""

import numpy as np
import pytest

from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.rank import Rank, Share, initial_state
from dptrain.experiment.job import Job
from tests.exchange.build import Data, never

EXPERIMENT = {
    "dataset": "classes", "dtype": "float32", "model": "mlp:20-9-3", "batch_size": 20,
    "shards": 5, "steps": 9,
}  # fmt: skip
AUGMENTED = {"augment_shift": 1, "augment_rotate": 20.0, "augment_noise": 0.1}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Job]:
    data = Data(tmp_path_factory.mktemp("data"))
    return data.job(EXPERIMENT), data.job(EXPERIMENT | AUGMENTED)


def test_evaluation_rows_are_never_augmented(jobs: tuple[Job, Job]) -> None:
    plain, augmented = (InlineEngine(job, *initial_state(job)) for job in jobs)
    assert len(list(augmented.train(0, 5, never, 1))) == 5
    plain.parameters[...] = augmented.parameters
    for split in ("train", "test"):
        assert augmented.evaluate(split) == plain.evaluate(split)


def test_training_rows_are_those_of_the_data_augmented(jobs: tuple[Job, Job]) -> None:
    plain, augmented = jobs
    ranks = [Rank(job, [initial_state(job)[0]]) for job in jobs]
    augmenter = augmented.augmenter()
    assert augmenter is not None
    assert plain.augmenter() is None
    for step in (0, 2, 1):  # the ragged minibatch among them
        before, after = (rank.gather(Share(step, 1, 4)) for rank in ranks)
        assert before.targets[0].tolist() == after.targets[0].tolist()
        expected = [x.copy() for x in before.inputs]
        augmenter.apply(step, before.blocks, expected)
        for x, y, raw in zip(expected, after.inputs, before.inputs, strict=True):
            np.testing.assert_array_equal(y, x, strict=True)
            assert (y != raw).any()


def test_rows_that_were_gathered_early_are_not_augmented_twice(jobs: tuple[Job, Job]) -> None:
    rank = Rank(jobs[1], [initial_state(jobs[1])[0]])
    share = Share(3, 0, 5)
    once = [x.copy() for x in rank.gather(share).inputs]
    for x, again in zip(once, rank.gather(share).inputs, strict=True):
        np.testing.assert_array_equal(again, x, strict=True)


def test_rows_placed_as_they_are_and_augmented_later(jobs: tuple[Job, Job]) -> None:
    plain, augmented = (Rank(job, [initial_state(job)[0]]) for job in jobs)
    share = Share(3, 0, 5)
    raw = [x.copy() for x in plain.gather(share).inputs]
    expected = [x.copy() for x in augmented.gather(share).inputs]
    placed = augmented.place(share)
    np.testing.assert_array_equal(placed.inputs, raw)
    augmented.augment(share, placed)
    np.testing.assert_array_equal(placed.inputs, expected)
    augmented.place(share)
    np.testing.assert_array_equal(augmented.gather(share).inputs, expected)
