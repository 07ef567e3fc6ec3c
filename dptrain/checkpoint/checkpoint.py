"""Checkpoints: one safetensors file with the weights, the optimizer's state and the progress.

Parameters bear their own names, so that any reader of safetensors finds them; the optimizer's state
bears names under ``optimizer/``. The metadata has one key, ``dptrain``, holding JSON: safetensors
writes several keys in random order, and equal checkpoints should be equal files. safetensors has no
checksum of its own, so the JSON carries one over itself and every tensor.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.checkpoint.atomic import atomic_write
from dptrain.errors import CheckpointError

VERSION = 1

# Enough for ten thousands of tensors, little enough to be read without a second thought.
HEADER_LIMIT = 8 << 20

_KEY = "dptrain"
_SLOT = "optimizer/"
_REMEDY = "use the run's other checkpoint, or train anew from its experiment.toml"

Array = NDArray[Any]
Progress = dict[str, int | float | str | None]
Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands; everything that resuming and evaluating need.

    Attributes:
        tensors: the parameters by name, such as ``"dense1.W"``, float32 or float64, in the order
            of the flat vector.
        optimizer: the rule's state by name, such as ``"momentum.0"``: flat arrays ``(size,)``.
        step: steps done.
        epoch: epochs completed.
        experiment: the text of the experiment, in TOML.
        digest: SHA-256, in hex, of the bytes of the flat parameter vector.
        progress: the best score and the like. JSON has no NaN and no infinity, so these come back
            as None.
    """

    tensors: dict[str, Array]
    optimizer: dict[str, Array]
    step: int
    epoch: int
    experiment: str
    digest: str
    progress: Progress


class _Tensor(msgspec.Struct, frozen=True):
    """An entry of the safetensors header, as far as it is checked here."""

    dtype: Literal["F32", "F64"]


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the metadata say."""

    version: int
    step: Count
    epoch: Count
    experiment: str
    digest: str
    progress: Progress
    parameters: list[str]
    slots: list[str]
    checksum: str


class _Version(msgspec.Struct, frozen=True):
    """The one field that every version has."""

    version: int


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint atomically: a death at any moment leaves the old file or the new one.

    Arrays may have any layout. A dtype but float32 and float64, or a parameter named like a slot,
    is a mistake of the caller: AssertionError. Raises RunFolderError when the disk is full or the
    folder cannot be written.
    """
    import safetensors.numpy  # here, because starting to train does not need it

    arrays = {name: np.asarray(array, order="C") for name, array in _named(checkpoint).items()}
    dtypes = {array.dtype for array in arrays.values()}
    assert dtypes <= {np.dtype("f4"), np.dtype("f8")}, dtypes
    assert not any(name.startswith(_SLOT) for name in checkpoint.tensors)
    about = _About(
        version=VERSION,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        experiment=checkpoint.experiment,
        digest=checkpoint.digest,
        progress=checkpoint.progress,
        parameters=list(checkpoint.tensors),
        slots=list(checkpoint.optimizer),
        checksum="",
    )
    about = msgspec.structs.replace(about, checksum=_checksum(about, arrays))
    metadata = {_KEY: msgspec.json.encode(about).decode()}
    atomic_write(path, safetensors.numpy.save(arrays, metadata))


def step_of(path: Path) -> int:
    """Return how many steps were done when a checkpoint was written, by its header alone.

    Raises CheckpointError as `load_checkpoint` does; what comes after the header is not looked at.
    """
    try:
        with path.open("rb") as file:
            return _read_about(path, file).step
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; its arrays belong to the caller.

    Raises CheckpointError naming the file and the remedy when it is missing, cut short, damaged,
    no checkpoint of dptrain or of another version. Nothing is allocated on the word of a header:
    memory is bounded by the size of the file.
    """
    try:
        if not path.is_file():  # asked first, since opening a pipe would wait for its other end
            what = "is not a file" if path.exists() else "does not exist"
            raise CheckpointError(f"{path}: {what}; name a run folder that `dptrain train` wrote")
        with path.open("rb") as file:
            about = _read_about(path, file)
            file.seek(0)
            data = file.read()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    arrays = _unpack(path, about, data)
    if _checksum(about, arrays) != about.checksum:
        raise _damaged(path, "its checksum does not match its content")
    return Checkpoint(
        tensors={name: arrays[name] for name in about.parameters},
        optimizer={name: arrays[_SLOT + name] for name in about.slots},
        step=about.step,
        epoch=about.epoch,
        experiment=about.experiment,
        digest=about.digest,
        progress=about.progress,
    )


def _named(checkpoint: Checkpoint) -> dict[str, Array]:
    slots = {_SLOT + name: array for name, array in checkpoint.optimizer.items()}
    return {**checkpoint.tensors, **slots}


def _checksum(about: _About, arrays: dict[str, Array]) -> str:
    total = hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(about, checksum="")))
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        total.update(array.data)
    return total.hexdigest()


def _read_about(path: Path, file: BinaryIO) -> _About:
    """Check the header against the size of the file, before anything is read on its word."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > HEADER_LIMIT:
        raise _foreign(path)
    if length > size - 8:
        raise _damaged(
            path, f"cut short: its header alone takes {length:,} bytes, the file has {size:,}"
        )
    header = file.read(length)
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(
            entries.pop("__metadata__", msgspec.Raw(b"{}")), type=dict[str, str]
        )
        if _KEY not in metadata:
            raise _foreign(path)
        version = msgspec.json.decode(metadata[_KEY], type=_Version).version
        if version != VERSION:
            raise CheckpointError(
                f"{path}: has version {version} of the checkpoint format, this dptrain reads "
                f"{VERSION}; use the dptrain that wrote it"
            )
        for entry in entries.values():
            msgspec.json.decode(entry, type=_Tensor)
        return msgspec.json.decode(metadata[_KEY], type=_About)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, f"its header is damaged ({error})") from None


def _unpack(path: Path, about: _About, data: bytes) -> dict[str, Array]:
    import safetensors.numpy  # here, because starting to train does not need it

    try:
        arrays: dict[str, Array] = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise _damaged(path, f"it is damaged or cut short ({error})") from None
    named = [*about.parameters, *(_SLOT + name for name in about.slots)]
    if sorted(arrays) != sorted(named):
        raise _damaged(path, "its tensors are not those that its metadata name")
    return arrays


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: {what}; {_REMEDY}")


def _foreign(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: not a checkpoint of dptrain; name a run folder, or a .safetensors file in its "
        f"checkpoints folder"
    )
