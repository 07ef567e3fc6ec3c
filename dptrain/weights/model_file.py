"""A trained network in one file: an .npz of its weights and of what is needed to use them.

The weights bear their own names, such as ``dense1.W``, so that ``np.load`` finds them. A quantised
one is an int8 array with its scales beside it, under ``dense1.W/scale``. One more member holds
JSON: ``about``. zip's deflate packs them: zeros shrink to nearly nothing, random floats hardly at
all. There is no optimizer state, so a run cannot be continued from here.
"""

import zipfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.atomic import atomic_write
from dptrain.checkpoint.checkpoint import Checkpoint, Progress
from dptrain.data.npz import npz_bytes, read_arrays
from dptrain.errors import CheckpointError, DataError
from dptrain.invocation import program, word
from dptrain.nn.quantisation import Quantised

VERSION = 1
SUFFIX = ".npz"
ABOUT = "about"

_SCALE = "/scale"
_REMEDY = "make it again with `dptrain compress` or `dptrain convert`"

Count = Annotated[int, msgspec.Meta(ge=0)]


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the member ``about`` says; the words are those of `Checkpoint`."""

    version: int
    step: Count
    epoch: Count
    experiment: str
    digest: str
    progress: Progress
    parameters: Annotated[list[str], msgspec.Meta(min_length=1)]


class _Version(msgspec.Struct, frozen=True):
    """The one field that every version has."""

    version: int


def model_bytes(checkpoint: Checkpoint, quantised: dict[str, Quantised]) -> bytes:
    """Return the file of a network.

    Args:
        checkpoint: its weights; the optimizer's state is left out.
        quantised: by name, what stands for some of the weights; those must be restored from it.
    """
    about = _About(
        version=VERSION,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        experiment=checkpoint.experiment,
        digest=checkpoint.digest,
        progress=checkpoint.progress,
        parameters=list(checkpoint.tensors),
    )
    members: dict[str, NDArray[Any]] = {ABOUT: np.array(msgspec.json.encode(about))}
    for name, array in checkpoint.tensors.items():
        whole = quantised.get(name)
        members[name] = array if whole is None else whole.values
        if whole is not None:
            members[name + _SCALE] = whole.scales
    return npz_bytes(members)


def save_model(path: Path, checkpoint: Checkpoint, quantised: dict[str, Quantised]) -> int:
    """Write the file of a network, atomically; return its size in bytes.

    Raises RunFolderError when it cannot be written.
    """
    data = model_bytes(checkpoint, quantised)
    atomic_write(path, data)
    return len(data)


def is_model_file(path: Path) -> bool:
    """Tell whether a path names such a file; a folder is a run, whatever its name."""
    return path.suffix == SUFFIX and not path.is_dir()


def holds_model(path: Path) -> bool:
    """Tell whether an .npz file is a model, as opposed to parameters without a network."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{ABOUT}.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def load_model(path: Path) -> Checkpoint:
    """Read a network's file; quantised weights come back as the floats that they stand for.

    Raises CheckpointError naming the file when it is missing, damaged, no model of dptrain or of
    another version.
    """
    try:
        arrays = read_arrays(path, _check_names)
    except DataError as error:
        raise CheckpointError(str(error)) from None
    about = _read_about(path, bytes(arrays[ABOUT]))
    tensors = {name: _restored(path, name, arrays) for name in about.parameters}
    if digest(_flat(tensors)) != about.digest:
        raise CheckpointError(f"{path}: its digest does not match its weights; {_REMEDY}")
    return Checkpoint(
        tensors, {}, about.step, about.epoch, about.experiment, about.digest, about.progress
    )


def _check_names(path: Path, names: list[str]) -> None:
    if ABOUT not in names:
        raise CheckpointError(
            f"{path}: is not a model of dptrain: it has no array {ABOUT!r}; parameters such as W1, "
            f"b1 become one with `{program()} convert {word(path)} MODEL{SUFFIX} --activation …`, "
            "or --model FILE.toml where convolutions are among them"
        )


def _read_about(path: Path, text: bytes) -> _About:
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version != VERSION:
            raise CheckpointError(
                f"{path}: has version {version} of the model format, this dptrain reads {VERSION}; "
                "use the dptrain that wrote it"
            )
        return msgspec.json.decode(text, type=_About)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its array {ABOUT!r} is damaged ({error}); {_REMEDY}"
        ) from None


def _restored(path: Path, name: str, arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    values, scales = arrays.get(name), arrays.get(name + _SCALE)
    if values is None:
        raise CheckpointError(f"{path}: its weights {name} are missing; {_REMEDY}")
    if scales is None:
        return _float(path, name, values)
    if values.dtype != np.int8 or scales.shape != values.shape[-1:]:
        raise CheckpointError(f"{path}: the scales of {name} do not fit it; {_REMEDY}")
    return Quantised(values, _float(path, name + _SCALE, scales)).restored()


def _float(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype not in (np.float32, np.float64):
        raise CheckpointError(f"{path}: {name} is {array.dtype}, not float; {_REMEDY}")
    return array


def _flat(tensors: dict[str, NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([array.reshape(-1) for array in tensors.values()])
