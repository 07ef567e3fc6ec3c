"""How much memory it takes to read a data set, as far as its files tell."""

import contextlib
from pathlib import Path

from dptrain.data.source import Kind, Source

_SAMPLE = 1 << 16
# Python's own: a text and a number for the label of a row, and the number of its line.
_BYTES_A_ROW = 60


def memory_needed(source: Source) -> int:
    """Return how many bytes it takes at the least; of damaged files, which are told of later, 0."""
    with contextlib.suppress(OSError, EOFError):
        if source.kind is Kind.CSV:
            return sum(map(_of_csv, source.files))
        if source.kind is Kind.NPZ:
            return sum(map(_of_archive, source.files))
        return sum(path.stat().st_size for path in source.files)
    return 0


def _of_csv(path: Path) -> int:
    """Guess by the beginning how many rows and cells there are, each of which becomes a float64."""
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
    return (8 * commas + _BYTES_A_ROW * rows) * size // max(1, len(beginning))


def _of_archive(path: Path) -> int:
    import zipfile  # here, because a warm cache never needs it

    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return sum(info.file_size for info in archive.infolist())
    return 0
