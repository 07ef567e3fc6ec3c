"""An observer in the words of the Python API, which also calls a function of the user's."""

from collections.abc import Callable
from typing import cast

from dptrain.coordinator.observer import Observer
from dptrain.experiment.python_words import as_python
from dptrain.metrics.records import EpochRecord

OnEpoch = Callable[[EpochRecord], object]


class _Telling:
    """Passes everything on to another observer, and epochs to a function."""

    def __init__(self, observer: Observer, on_epoch: OnEpoch | None) -> None:
        self._observer = observer
        self._on_epoch = on_epoch

    def __getattr__(self, name: str) -> object:
        return getattr(self._observer, name)

    def epoch(self, record: EpochRecord) -> None:
        """Tell both; what the function raises ends the run."""
        self._observer.epoch(record)
        if self._on_epoch is not None:
            self._on_epoch(record)

    def note(self, message: str) -> None:
        """Pass it on."""
        self._observer.note(as_python(message))

    def warn(self, message: str) -> None:
        """Pass it on."""
        self._observer.warn(as_python(message))


def telling(observer: Observer, on_epoch: OnEpoch | None) -> Observer:
    """Return an observer whose messages name no flags, and that passes epochs to a function."""
    return cast(Observer, _Telling(observer, on_epoch))
