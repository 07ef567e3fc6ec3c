"""Write the folder of a prepared data set, all of it or nothing."""

import errno
import itertools
import math
import os
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dptrain.data.checksums import Mark
from dptrain.data.class_doubts import class_doubts
from dptrain.data.csv_header import TableForm
from dptrain.data.folder import FORMAT_VERSION, META, Meta, encoded, meta_if_sound
from dptrain.data.inputs import normalise_inputs
from dptrain.data.npy import npy_header
from dptrain.data.raw import RawData, check_raw
from dptrain.data.rescaling import are_apart, scale_of
from dptrain.data.rounding import TARGETS, Rounded, offsets_of, worst_rounded
from dptrain.data.row_weights import checked_weights
from dptrain.data.scale import Scale
from dptrain.data.spool import Centred, Rows
from dptrain.data.targets import Targets, Task, normalise_targets
from dptrain.errors import DataError
from dptrain.scratch import held_folder

DtypeName = Literal["float32", "float64"]
# What is taken off the numbers of a sample: nothing, one each, or what saves their digits.
Offsets = Sequence[float] | Literal["find"] | None

_PREFIX = ".preparing-"
_PIECE_BYTES = 1 << 22


def write_folder(
    folder: Path,
    data: RawData,
    *,
    name: str,
    source: str,
    digest: str,
    dtype: DtypeName,
    task: Task | None = None,
    exact_targets: bool = False,
    offsets: Offsets = None,
    form: TableForm | None = None,
    remedy: str,
) -> None:
    """Normalise ``data`` and write it as ``folder``; the words are those of ``folder.Meta``.

    ``task`` and ``exact_targets`` are those of ``normalise_targets``, of which the latter is its
    ``exact``. Where ``data`` names classes, there are as many, with rows or without.

    The files are made in a temporary folder beside it, synced to the disk and moved into place.
    Any number of processes may write the same data as the same folder at once.

    Raises DataError for data that cannot be trained on and, naming the size needed and
    ``remedy``, for a folder that cannot be written.
    """
    check_raw(data)
    scalar = np.dtype(dtype)
    if task == "regression" and data.class_names:
        raise DataError(
            f"task='regression' needs numbers, but the targets are words such as "
            f"{data.class_names[0]!r}; give numbers, or name another column of a table with --label"
        )
    targets = normalise_targets(data.t_train, data.t_test, scalar, task, exact=exact_targets)
    names = _class_names(data, targets)
    found = _offsets(data.x_train, scalar, offsets)
    inputs: dict[str, Rows] = {"x_train": _centred(data.x_train, found)}
    outputs: dict[str, NDArray[Any]] = {"t_train": targets.train}
    if data.w_train is not None:
        column = None if form is None else form.row_weights  # a data frame's form names none
        what = "sample_weight" if column is None else f"the column {column!r}"
        outputs["w_train"] = checked_weights(data.w_train, len(data.x_train), what)
    if data.x_test is not None and targets.test is not None:
        inputs["x_test"] = _centred(data.x_test, found)
        outputs["t_test"] = targets.test
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = held_folder(_PREFIX, folder.parent)
        temporary.chmod(stat.S_IMODE(folder.parent.stat().st_mode))  # others may share the cache
        files = {}
        for key, values in inputs.items():
            pieces = _normalised(values, scalar, key)
            files[f"{key}.npy"] = _write_npy(temporary / f"{key}.npy", len(values), pieces)
        for key, values in outputs.items():
            files[f"{key}.npy"] = _write_npy(temporary / f"{key}.npy", len(values), iter([values]))
        scale = scale_of(data.x_train)
        meta = Meta(
            FORMAT_VERSION,
            digest,
            name,
            source,
            dtype,
            classes=len(names),
            class_names=names,
            rounded=tuple(_rounded(inputs["x_train"], data, scalar, targets)),
            scale=scale,
            files=files,
            form=form,
            notes=(*data.notes, *class_doubts(names), *_other_scale(data, scale)),
            offsets=found,
        )
        _write_synced(temporary / META, [encoded(meta)])
        _publish(temporary, folder, meta)
    except OSError as error:
        needed = sum(
            values.size * (1 if values.dtype == np.uint8 else scalar.itemsize)
            for values in inputs.values()
        )
        needed += sum(values.nbytes for values in outputs.values())
        raise DataError(
            f"{folder.parent}: the prepared data set ({needed / 1e6:.1f} MB) cannot be written "
            f"there: {error.strerror or error}; {remedy}"
        ) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _offsets(x: NDArray[Any], dtype: np.dtype[Any], given: Offsets) -> tuple[float, ...]:
    if given == "find":
        return offsets_of(x, dtype)
    # other data with other samples are refused by whoever asked for them
    fits = given is not None and x.dtype != np.uint8 and len(given) == math.prod(x.shape[1:])
    return tuple(map(float, given or ())) if fits else ()


def _centred(x: NDArray[Any], offsets: tuple[float, ...]) -> Rows:
    return Centred(x, offsets) if offsets else x


def _class_names(data: RawData, targets: Targets) -> tuple[str, ...]:
    if not targets.classes:
        return ()
    numbers = tuple(str(index) for index in range(targets.classes))
    names = data.class_names or targets.names or numbers
    if targets.classes > len(names):
        raise DataError(
            f"labels go up to {targets.classes - 1}, but the run has {len(names)} classes, "
            f"{', '.join(names[:8])}"
        )
    return names


def _other_scale(data: RawData, scale: Scale) -> Iterator[str]:
    """Yield a sentence where the test part seems to have another scale than the training part."""
    if data.x_test is None:
        return
    test = scale_of(data.x_test)
    if are_apart(test, scale, data.x_train.shape[1:]):
        yield (
            f"x_test holds numbers from {test.low:g} to {test.high:g}, and x_train from "
            f"{scale.low:g} to {scale.high:g}: bring them to the same scale, or the test score "
            "tells nothing"
        )


def _rounded(x: Rows, data: RawData, dtype: np.dtype[Any], targets: Targets) -> Iterator[Rounded]:
    """Yield the columns that lose most digits: of the inputs, and of targets to predict."""
    found = [worst_rounded(x, dtype, "x_train", data.input_names)]
    if not targets.classes:
        t = data.t_train[:, 0] if data.t_train.shape[1:] == (1,) else data.t_train
        found.append(worst_rounded(t, targets.train.dtype, TARGETS))
    yield from (each for each in found if each is not None)


def _normalised(values: Rows, dtype: np.dtype[Any], name: str) -> Iterator[NDArray[Any]]:
    """Yield the inputs piece by piece, so that they are never whole in memory.

    Grey values stay uint8, a quarter of the memory to read in every step.
    """
    if isinstance(values, np.ndarray) and values.dtype == np.uint8:
        yield values[:, np.newaxis] if values.ndim == 1 else values
        return
    rows = max(1, _PIECE_BYTES // (dtype.itemsize * math.prod(values.shape[1:])))
    for first in range(0, len(values), rows):
        yield normalise_inputs(values[first : first + rows], dtype, name=name, first_row=first)


def _write_npy(path: Path, rows: int, pieces: Iterator[NDArray[Any]]) -> Mark:
    """Write the pieces one after the other as an array of ``rows`` rows."""
    first = next(pieces)
    header = npy_header((rows, *first.shape[1:]), first.dtype)
    contents = (np.ascontiguousarray(piece).data for piece in itertools.chain([first], pieces))
    return _write_synced(path, itertools.chain([header], contents))


def _write_synced(path: Path, pieces: Iterable[bytes | memoryview]) -> Mark:
    # Not through a memory map: on a full disk that ends the process with SIGBUS.
    checksum = 0
    with path.open("xb") as file:
        for piece in pieces:
            checksum = zlib.crc32(piece, checksum)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        return Mark(file.tell(), checksum)


def _publish(temporary: Path, folder: Path, meta: Meta) -> None:
    """Move a finished folder into place."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    else:
        return
    present = meta_if_sound(folder)
    if present is not None:
        if (present.digest, present.dtype) == (meta.digest, meta.dtype):
            return  # another process was quicker
        for name in (META, *present.files):  # another data set: never half of each
            (folder / name).unlink(missing_ok=True)
    # A damaged folder is mended file by file: several processes may do so at once, and each leaves
    # whole files of the same contents. Moving the folder away could take away another's repair.
    for name in (*meta.files, META):
        (temporary / name).replace(folder / name)
