"""Open a source file, plain or gzipped, and report every damage as a DataError naming the file."""

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dptrain.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"

# Deflate packs at most 258 bytes into two bits, less than 1032 to 1 (zlib's technical details), so
# a file that declares more than this many times its own size is lying.
DEFLATE_LIMIT = 1032


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple["io.BufferedReader[Any]", bool]]:
    """Yield the file's unpacked bytes as a stream, and whether the file is gzipped.

    Its first bytes decide, not its name. Raises DataError, inside the ``with`` too, when the file
    cannot be read or its gzip data are damaged.
    """
    try:
        with path.open("rb") as plain:
            gzipped = plain.read(2) == _GZIP_MAGIC
            plain.seek(0)
            if not gzipped:
                yield plain, False
                return
            with gzip.GzipFile(fileobj=plain) as packed, io.BufferedReader(packed) as unpacked:
                yield unpacked, True
    except EOFError:
        raise DataError(f"{path}: the gzip data are truncated; fetch the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip data ({error}); fetch the file again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
