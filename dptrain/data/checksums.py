"""Are the files of a prepared data set what was written? Disks forget bits without a word.

Reading all of a large data set before every run would cost more than the rest of its beginning, so
what was found sound is remembered by what the system tells of the files: where they lie, and when
they were changed. A copy of the folder, on another machine say, is looked at anew.
"""

import contextlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

_SOUND = "sound.json"
_PIECE_BYTES = 1 << 20


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded of a file: its size in bytes and the CRC-32 of its contents."""

    size: int
    crc32: int


# Of a file: inode, size, and the times of its last changes in ns. Not even what sets the one of
# contents back leaves the other as it was.
Identity = tuple[int, int, int, int]


def damaged_file(folder: Path, files: Mapping[str, Mark], *, thorough: bool = False) -> str | None:
    """Return the name of a file whose contents are not those that were written, if there is one.

    Args:
        folder: of a prepared data set.
        files: what is recorded of each of its files.
        thorough: whether to read also what has not changed since it was found sound.

    Raises:
        OSError: a file cannot be read.
    """
    remembered, since = _remembered(folder)
    sound: dict[str, Identity] = {}
    news = False
    for name, mark in files.items():
        identity = _identity(folder / name)
        # Times are told in steps of some milliseconds: what was changed in the step in which it
        # was remembered may have been changed once more.
        settled = remembered.get(name) == identity and max(identity[2:]) < since
        if (thorough or not settled) and _crc32(folder / name) != mark.crc32:
            with contextlib.suppress(OSError):
                (folder / _SOUND).unlink()
            return name
        sound[name] = identity
        news = news or not settled
    if news and not thorough:
        _remember(folder, sound)
    return None


def _identity(path: Path) -> Identity:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(_PIECE_BYTES))
        while count := file.readinto(buffer):
            found = zlib.crc32(buffer[:count], found)
    return found


def _remembered(folder: Path) -> tuple[dict[str, Identity], int]:
    """Return what is remembered, and since when; nothing where somebody else has written it."""
    path = folder / _SOUND
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        found = path.stat()
        if found.st_uid in (os.geteuid(), folder.stat().st_uid):
            return msgspec.json.decode(
                path.read_bytes(), type=dict[str, Identity]
            ), found.st_mtime_ns
    return {}, 0


def _remember(folder: Path, sound: Mapping[str, Identity]) -> None:
    """Remember it where that can be written: a lost note costs another look, no more."""
    temporary = folder / f".{_SOUND}-{os.getpid()}-{os.urandom(4).hex()}"
    with contextlib.suppress(OSError):
        try:
            temporary.write_bytes(msgspec.json.encode(sound))
            temporary.replace(folder / _SOUND)
        finally:
            temporary.unlink(missing_ok=True)
