"""Append records to a run's metrics, so that a death at any moment leaves whole lines behind."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from dptrain.checkpoint.atomic import atomic_write
from dptrain.errors import RunFolderError
from dptrain.metrics.lines import decode_line, whole_lines
from dptrain.metrics.records import EndRecord, Record


def _plain(value: object) -> object:
    # NumPy's float64 is a float to the type checker, but not to msgspec.
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} in a record of metrics")


# NaN and the infinities become null, since JSON has none of them.
_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


class MetricsWriter:
    """The writing end of a metrics file. One writer at a time: the run folder's lock sees to that.

    A record is handed to the system before `write` returns, so a killed run loses none. Write the
    records of a step before its checkpoint: what is missing then is written when it is done again.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        """Open the file, or begin it, and drop a last line torn by a death.

        ``warn`` is told once when the disk is full. Raises RunFolderError when the file cannot be
        opened.
        """
        self._path = path
        self._warn = warn
        self._warned = False
        try:
            # Unbuffered: a buffer would try the lines of a full disk again, in the midst of others.
            self._file = path.open("ab", buffering=0)
            data = path.read_bytes()
            os.ftruncate(self._file.fileno(), data.rfind(b"\n") + 1)
        except OSError as error:
            raise RunFolderError(
                f"{path}: cannot be written: {error.strerror or error}; make it writable, or "
                f"choose another folder with --out"
            ) from None

    def write(self, record: Record) -> None:
        """Append a line. On a full disk the record is lost, said once; training is worth more."""
        line = memoryview(_ENCODER.encode(record) + b"\n")
        descriptor = self._file.fileno()
        end = os.fstat(descriptor).st_size
        try:
            while line:
                line = line[os.write(descriptor, line) :]
        except OSError as error:
            # What fitted of the line would make the next one unreadable.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end)
            self._warn_once(error)

    def truncate_after(self, step: int) -> None:
        """Drop the records of later steps, atomically, so that each step stands once.

        The end of training is dropped as well: training goes on, or there is no such record yet.

        Raises RunFolderError when a line is not a record, or when the file cannot be written.
        """
        lines = whole_lines(self._path.read_bytes())
        records = [decode_line(self._path, number, line) for number, line in enumerate(lines, 1)]
        kept = [
            line + b"\n"
            for line, record in zip(lines, records, strict=True)
            if record.step <= step and not isinstance(record, EndRecord)
        ]
        if len(kept) == len(lines):
            return
        atomic_write(self._path, kept)
        self._file.close()
        self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _warn_once(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                f"{self._path}: a record was lost: {error.strerror or error}; training goes on, "
                f"free some space to log the rest of it"
            )
