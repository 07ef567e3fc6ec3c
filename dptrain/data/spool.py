"""Rows of numbers that need not fit into memory while a data set is prepared."""

import array
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DataError

IN_MEMORY = 1 << 20  # numbers in memory: 8 MB
PIECE = 1 << 18  # numbers looked at together


class FileRows:
    """Numbers ``(rows, columns)``, float64, in a file: of all that arrays can it gives slices.

    As an argument of NumPy's functions it becomes an array, whole in memory.
    """

    dtype = np.dtype(np.float64)
    ndim = 2

    def __init__(self, file: IO[bytes], rows: int, columns: int) -> None:
        """Take the rows that a file holds one behind the other."""
        self._file = file
        self.shape = (rows, columns)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(len(self))
        found = np.empty((max(0, stop - start), self.shape[1]), self.dtype)
        self._file.seek(start * self.shape[1] * self.dtype.itemsize)
        self._file.readinto(found.reshape(-1).view(np.uint8))  # type: ignore[attr-defined]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = self[:]
        return found if dtype is None else found.astype(dtype, copy=False)


class Centred:
    """Rows with an offset taken off each element of a sample, float64; it gives slices."""

    dtype = np.dtype(np.float64)

    def __init__(self, rows: NDArray[Any] | FileRows, offsets: Sequence[float]) -> None:
        """Take rows ``(n, …)`` and as many offsets as a row has numbers."""
        self._rows = rows
        self._offsets = np.reshape(offsets, rows.shape[1:])
        self.shape = rows.shape
        self.ndim = rows.ndim
        self.size = rows.size
        self.nbytes = rows.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        found: NDArray[Any] = self._rows[rows].astype(np.float64) - self._offsets
        return found


# What a data set's inputs may be: an array, perhaps a mapped one, or what gives slices of such.
Rows = NDArray[Any] | FileRows | Centred


def pieces_of(rows: Rows) -> Iterator[slice]:
    """Yield slices that cut rows into pieces of a few megabytes."""
    each = max(1, PIECE * len(rows) // max(1, rows.size))
    return (slice(start, start + each) for start in range(0, len(rows), each))


class Unusable(NamedTuple):
    """The first number that is infinite or none: its row, its column, and itself."""

    row: int
    column: int
    value: float


class Room(ExitStack):
    """A context in which rows may lie in files without names, which are gone when it ends.

    Attributes:
        folder: of the files; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder."""
        super().__init__()
        self.folder = folder

    def file(self) -> IO[bytes]:
        """Return a new file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.enter_context(tempfile.TemporaryFile(dir=self.folder))

    def full(self, error: OSError, size: int) -> DataError:
        """Return what to say where so many bytes could not be written."""
        return DataError(
            f"{self.folder}: the numbers on their way to the prepared data set, {size / 1e6:,.0f} "
            f"MB so far, cannot be kept there: {error.strerror or error}; free some space or name "
            "another folder with DPTRAIN_CACHE=DIR"
        )


class Spool:
    """Takes rows one behind the other: beyond 8 MB into a file, if there is room for one.

    Attributes:
        values: of the last rows; add a row's numbers, and call `flush` where ``full`` says so.
        full: how many of them are written together.
        unusable: the first number written that is not finite.
    """

    def __init__(self, columns: int, room: Room | None) -> None:
        """Take rows of so many columns; ``room`` is for the file, None keeps all in memory."""
        self.values = array.array("d")
        self.full = 1 << 62 if room is None else max(1, IN_MEMORY // max(1, columns)) * columns
        self.unusable: Unusable | None = None
        self._columns = columns
        self._room = room
        self._rows = 0
        self._file: IO[bytes] | None = None

    def flush(self) -> None:
        """Write the values; raise DataError where they find no room."""
        assert self._room is not None
        try:
            if self._file is None:
                self._file = self._room.file()
            self._file.write(self._checked().data)
        except OSError as error:
            size = 8 * (self._columns * self._rows + len(self.values))
            raise self._room.full(error, size) from None
        self._rows += len(self.values) // max(1, self._columns)
        self.values = array.array("d")

    def rows(self, count: int) -> NDArray[Any] | FileRows:
        """Return all rows, of which there are ``count``."""
        if self._file is None:
            return self._checked()
        self.flush()
        return FileRows(self._file, count, self._columns)

    def _checked(self) -> NDArray[Any]:
        found = np.frombuffer(self.values).reshape(-1, self._columns)
        finite = np.isfinite(found)
        if self.unusable is None and not finite.all():
            row, column = map(int, np.argwhere(~finite)[0])
            self.unusable = Unusable(self._rows + row, column, float(found[row, column]))
        return found
