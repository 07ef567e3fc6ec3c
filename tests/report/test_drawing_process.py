"""Curves drawn by a process that got ready while the run went on."""

from pathlib import Path

import pytest

from dptrain.coordinator.outcome import Outcome
from dptrain.errors import RunFolderError
from dptrain.exchange.engine import StepsDone
from dptrain.experiment.execution import Execution
from dptrain.report.drawing_process import DrawingProcess, draw_run
from dptrain.report.observers import SilentObserver
from tests.sessions import run, write_dataset


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("runs")
    data = write_dataset(folder / "small.npz")
    return run({"dataset": str(data)}, folder / "run", workers=1)


def engaged(outcome: Outcome) -> DrawingProcess:
    """Return an artist who has been told that the end is near."""
    artist = DrawingProcess(SilentObserver())
    artist.begin(outcome.job, Execution(workers=1), outcome.folder.path, 0)
    artist._free = True  # as on a machine with a core to spare
    artist.step(StepsDone(0, 8, 1.0, 0.1, 0.0, 0.0, 0.0))
    assert artist._process is not None
    return artist


def test_what_it_draws_is_what_would_be_drawn_at_the_end(outcome: Outcome) -> None:
    draw_run(outcome.folder.path)
    expected = outcome.folder.curves.read_bytes()
    outcome.folder.curves.unlink()
    with engaged(outcome) as artist:
        artist.ask_for(outcome.folder.path)
        artist.wait()
    assert outcome.folder.curves.read_bytes() == expected


def test_its_errors_are_told(outcome: Outcome, tmp_path: Path) -> None:
    with engaged(outcome) as artist:
        artist.ask_for(tmp_path)
        with pytest.raises(RunFolderError, match="run"):
            artist.wait()


def test_a_run_that_was_stopped_is_not_drawn(outcome: Outcome) -> None:
    outcome.folder.curves.unlink(missing_ok=True)
    with engaged(outcome) as artist:
        artist.wait()
    assert not outcome.folder.curves.exists()


def test_a_run_that_fails_sends_it_home(outcome: Outcome) -> None:
    with pytest.raises(ZeroDivisionError), engaged(outcome):  # the fixture for leaks sees the rest
        raise ZeroDivisionError


def test_a_long_run_does_not_feed_it_yet(outcome: Outcome) -> None:
    artist = DrawingProcess(SilentObserver())
    artist.begin(outcome.job, Execution(workers=1), outcome.folder.path, 0)
    artist._free, artist._total = True, 10**9
    artist.step(StepsDone(0, 1, 1.0, 0.1, 0.0, 0.0, 0.0))
    assert artist._process is None


def test_without_a_core_to_spare_nobody_is_engaged(outcome: Outcome) -> None:
    artist = DrawingProcess(SilentObserver())
    artist.begin(outcome.job, Execution(workers=10**6), outcome.folder.path, 0)
    artist.step(StepsDone(0, 8, 1.0, 0.1, 0.0, 0.0, 0.0))
    assert artist._process is None
