"""An observer that also calls a function of the user's."""

from collections.abc import Callable
from typing import cast

from dptrain.coordinator.observer import Observer
from dptrain.metrics.records import EpochRecord

OnEpoch = Callable[[EpochRecord], object]


class _Telling:
    """Passes everything on to another observer, and epochs to a function."""

    def __init__(self, observer: Observer, on_epoch: OnEpoch) -> None:
        self._observer = observer
        self._on_epoch = on_epoch

    def __getattr__(self, name: str) -> object:
        return getattr(self._observer, name)

    def epoch(self, record: EpochRecord) -> None:
        """Tell both; what the function raises ends the run."""
        self._observer.epoch(record)
        self._on_epoch(record)


def telling(observer: Observer, on_epoch: OnEpoch) -> Observer:
    """Return an observer that calls a function with the record of every epoch."""
    return cast(Observer, _Telling(observer, on_epoch))
