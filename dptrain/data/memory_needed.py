"""How much memory it takes to read a data set, as far as its files tell."""

import contextlib
from pathlib import Path

from dptrain.data.idx import declared_bytes
from dptrain.data.source import Source, SourceKind
from dptrain.data.spool import IN_MEMORY
from dptrain.errors import DataError

_SAMPLE = 1 << 16
# For its label, and what that becomes.
_BYTES_A_ROW = 15


def memory_needed(source: Source) -> int:
    """Return how many bytes it takes at the least; of damaged files, which are told of later, 0."""
    with contextlib.suppress(OSError, EOFError, DataError):
        if source.kind is SourceKind.CSV:
            return sum(map(_of_csv, source.files))
        if source.kind is SourceKind.NPZ:
            return sum(map(_of_archive, source.files))
        if source.kind in (SourceKind.IDX, SourceKind.EMBEDDED):
            return sum(map(declared_bytes, source.files))
        return sum(path.stat().st_size for path in source.files)
    return 0


def _of_csv(path: Path) -> int:
    """Guess by the beginning how many rows and cells there are; few of these are in memory."""
    packed = path.name.lower().endswith(".gz")
    with path.open("rb") as file:
        beginning, size = file.read(_SAMPLE), path.stat().st_size
        if packed:  # gzip's last four bytes are the size before it was packed, modulo 4 GB
            file.seek(-4, 2)
            size = max(size, int.from_bytes(file.read(4), "little"))
    if packed:
        import gzip  # here, because few need it

        with gzip.open(path) as stream:
            beginning = stream.read(_SAMPLE)
    rows, commas = beginning.count(b"\n"), beginning.count(b",")
    parts = size / max(1, len(beginning))
    numbers = min(commas * parts, IN_MEMORY)  # and half as many on their way to where they go
    return int(12 * numbers + _BYTES_A_ROW * rows * parts)


def _of_archive(path: Path) -> int:
    import zipfile  # here, because a warm cache never needs it

    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return sum(min(info.file_size, 8 * IN_MEMORY) for info in archive.infolist())
    return 0
