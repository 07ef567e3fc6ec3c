"""Records as lines of JSON: reading them, and telling whole lines from a torn last one."""

from pathlib import Path

import msgspec

from dptrain.errors import RunFolderError
from dptrain.metrics.records import Record

_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def whole_lines(data: bytes) -> list[bytes]:
    """Return the lines without their ends; one that has no end was torn by a death: not counted."""
    return data.split(b"\n")[:-1]


def decode_line(path: Path, number: int, line: bytes) -> Record:
    """Return the record in a line; raises RunFolderError naming file and line, counted from 1."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunFolderError(
            f"{path}: line {number} is not a record of metrics ({error}); delete that line"
        ) from None


def read_metrics(path: Path) -> list[Record]:
    """Return all records, in the order they were written.

    Raises RunFolderError when the file is missing or holds something else, naming the line. A last
    line without an end is left out: its run is writing it, or was killed while it did.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
            raise RunFolderError(f"{path}: is not a file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise RunFolderError(
            f"{path}: there are no metrics; they begin with a run's first logged step"
        ) from None
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror or error}") from None
    return [decode_line(path, number, line) for number, line in enumerate(whole_lines(data), 1)]
