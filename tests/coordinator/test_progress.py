"""When a run has trained long enough, against the definition written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.coordinator.progress import Ending, RunProgress

SCORES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.31, 0.5]), min_size=1, max_size=12)


def judged(scores: list[float], min_improvement: float = 0.0) -> RunProgress:
    progress = RunProgress()
    for step, score in enumerate(scores, 1):
        progress.step = step
        progress.judge(score, min_improvement)
    return progress


@given(SCORES, st.integers(1, 4))
def test_patience_counts_from_the_first_best(scores: list[float], patience: int) -> None:
    progress = judged(scores)
    first_best = scores.index(max(scores)) + 1
    assert (progress.best, progress.best_step) == (max(scores), first_best)
    assert progress.is_exhausted(patience) == (len(scores) - first_best >= patience)
    assert not progress.is_exhausted(None)
    assert progress.end() == Ending(len(scores), len(scores) - first_best)
    assert progress.evaluated == len(scores)


@pytest.mark.parametrize(
    ("scores", "best_step", "waited"),
    [
        ([0.5, 0.55, 0.59], 3, 2),  # none is an improvement, yet the last is the best
        ([0.5, 0.55, 0.61], 3, 0),  # together they are one
        ([0.5, 0.65, 0.64, 0.7], 4, 2),
        ([-3.0, -2.0, -2.5], 2, 1),
        ([0.5, 0.6], 2, 1),  # exactly so much is not enough
    ],
)
def test_small_gains_do_not_renew_patience(
    scores: list[float], best_step: int, waited: int
) -> None:
    progress = judged(scores, 0.1)
    assert progress.best_step == best_step
    assert progress.end().waited == waited


@given(SCORES, SCORES, st.sampled_from([0.0, 0.15]))
def test_a_checkpoint_keeps_it(before: list[float], after: list[float], gain: float) -> None:
    progress = judged(before, gain)
    resumed = RunProgress.of(progress.step, progress.plain())
    for step, score in enumerate(after, progress.step + 1):
        for each in (progress, resumed):
            each.step = step
        assert resumed.judge(score, gain) == progress.judge(score, gain)
    assert resumed.plain() == progress.plain()
    assert RunProgress.of(3, RunProgress().plain()).plain() == RunProgress().plain()


def test_a_checkpoint_from_before_there_was_patience() -> None:
    found = RunProgress.of(7, {"best": 0.5, "evaluated": 5, "class_names": "a"})
    assert (found.step, found.best, found.evaluated, found.ending) == (7, 0.5, 5, None)


@pytest.mark.parametrize(
    ("ending", "patience", "total", "ended"),
    [
        (None, 3, 10, False),
        (Ending(10, 3), 3, 20, True),  # out of patience
        (Ending(10, 3), 3, 50, True),  # more epochs do not bring patience
        (Ending(10, 3), 4, 20, False),  # more patience does
        (Ending(10, 3), 4, 10, True),  # but there is nothing left to do
        (Ending(10, 1), 3, 10, True),  # all epochs are done
        (Ending(10, 1), 3, 20, False),  # and now there are more
    ],
)
def test_what_lets_a_run_go_on(
    ending: Ending | None, patience: int, total: int, ended: bool
) -> None:
    progress = judged([0.5])
    progress.ending = ending
    again = RunProgress.of(progress.step, progress.plain())
    assert again.has_ended(patience, total) == ended
