"""Make a data set ready to be memory-mapped, once per machine."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.arrays import named_classes
from dptrain.data.folder import FORMAT_VERSION, meta_if_whole
from dptrain.data.raw import RawData, check_raw, transposed
from dptrain.data.source import Source, find_source, read
from dptrain.data.targets import Task
from dptrain.data.writing import DtypeName, write_folder
from dptrain.errors import DataError, UsageError

CACHE_VARIABLE = "DPTRAIN_CACHE"


def prepare(
    reference: str,
    *,
    dtype: DtypeName,
    label: str | None = None,
    columns: Sequence[str] | None = None,
    task: Task | None = None,
    transpose: bool = False,
) -> Path:
    """Return the folder of the prepared data set, made now unless the cache has it.

    ``reference``, ``label`` and ``columns`` are those of ``read_source``, ``task`` that of
    ``normalise_targets``, with the same errors; the inputs are converted to ``dtype``, with
    rows and columns of images exchanged if ``transpose``. The folder
    lies in the folder that DPTRAIN_CACHE names, otherwise in the user's cache folder, under a name
    that depends on the bytes of the source. A damaged one is made anew. Raises DataError when it
    cannot be written.
    """
    _check_dtype(dtype)
    source = find_source(reference)
    name, origin = _as_text(source.name), _as_text(reference)
    digest = _source_digest(source, label, columns, task)
    known = _digest_of(digest, "transpose") if transpose else digest
    folder = cache_folder() / _digest_of(str(FORMAT_VERSION), known, name, dtype)[:32]
    if meta_if_whole(folder):
        return folder
    data = named_classes(read(source, label, columns))
    if _source_digest(source, label, columns, task) != digest:
        raise DataError(f"{reference}: changed while it was read; try again")
    write_folder(
        folder,
        transposed(data) if transpose else data,
        name=name,
        source=origin,
        digest=known,
        dtype=dtype,
        task=task,
        remedy=f"free some space or name another folder with {CACHE_VARIABLE}=DIR",
    )
    return folder


def prepare_arrays(
    folder: Path,
    *,
    x_train: NDArray[Any],
    t_train: NDArray[Any],
    x_test: NDArray[Any] | None = None,
    t_test: NDArray[Any] | None = None,
    dtype: DtypeName,
    task: Task | None = None,
) -> Path:
    """Write arrays in memory as the prepared data set ``folder``, and return it.

    Inputs have shape (n, ...), targets are class labels or words (n,), one-hot rows (n, k) or
    floats (n,) or (n, k); ``task`` is that of ``normalise_targets``. They are checked and
    converted as those of a file. A data set that is in the folder already is replaced. Raises
    DataError for data that cannot be trained on, or when the folder cannot be written.
    """
    _check_dtype(dtype)
    data = named_classes(RawData(x_train, t_train, x_test, t_test))
    check_raw(data)
    with_test = () if x_test is None or data.t_test is None else (x_test, data.t_test)
    chosen = [*data.class_names, *([] if task is None else [task])]
    digest = _digest_of(*map(_array_digest, (x_train, data.t_train, *with_test)), *chosen)
    write_folder(
        folder,
        data,
        name="arrays",
        source="memory",
        digest=digest,
        dtype=dtype,
        task=task,
        remedy="free some space or give another folder",
    )
    return folder


def _as_text(path: str) -> str:
    """Replace the bytes of a path that are no UTF-8, which Python keeps as lone surrogates."""
    return os.fsencode(path).decode(errors="replace")


def _check_dtype(dtype: str) -> None:
    if dtype not in ("float32", "float64"):
        raise UsageError(f"dtype={dtype!r} must be float32 or float64")


def cache_folder() -> Path:
    """Return where prepared data sets are kept: DPTRAIN_CACHE, or the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs  # here, because it takes 5 ms to import and is not always needed

    return Path(platformdirs.user_cache_dir("dptrain"))


def _source_digest(
    source: Source, label: str | None, columns: Sequence[str] | None, task: Task | None
) -> str:
    """Return what names the data: a digest of the files' bytes and of how they are read."""
    contents = []
    for path in source.files:
        try:
            with path.open("rb") as file:
                contents.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    chosen = [] if label is None else [_as_text(label)]
    if columns is not None or task is not None:
        chosen.append(ascii((None if columns is None else list(columns), task)))
    return _digest_of(source.kind.name, *contents, *chosen)


def _array_digest(values: NDArray[Any]) -> str:
    header = f"{values.dtype.str}{values.shape}".encode()
    return hashlib.sha256(
        header + hashlib.sha256(np.ascontiguousarray(values).data).digest()
    ).hexdigest()


def _digest_of(*parts: str) -> str:
    # Zero bytes between the parts, so that moving a letter from one to the next is a change.
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
