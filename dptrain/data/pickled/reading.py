"""Dicts of arrays from pickle files, such as the book's ``sample_weight.pkl``, without unpickling.

A pickle is a program: two of its instructions import and call whatever the file names, so loading
one is running it. Restricting what `pickle.Unpickler` may find is the usual remedy, but leaves the
calls to it, with the arguments that the file has: ``numpy.ndarray`` can be asked for a petabyte,
and for objects. So here is another machine, which knows the few instructions that NumPy's pickles
consist of (`machine`) and has nothing to call: five globals are names, and their calls, with just
the arguments that NumPy gives them, are patterns that stand for a dtype or an array (`arrays`).

What a file takes up in memory is bounded by its size: an array must have as many bytes as its shape
takes, and bytes made out of others add up to no more than twice the file, as they do where arrays
are written as text first (protocols 0 to 2). The number of instructions is limited.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dptrain.data.pickled.arrays import Array, ArrayBuilder, PickleRefused
from dptrain.data.pickled.machine import Machine
from dptrain.errors import DataError


def read_pickle(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays in a pickle file; as `read_pickled`, with messages that name the file."""
    try:
        return read_pickled(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_pickled(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays in a pickle of a dict, of any protocol, by Python 2 or 3.

    Args:
        data: the file, whole.

    Returns:
        Arrays of numbers or booleans, by name, in the byte order of this machine.

    Raises:
        DataError: the pickle is damaged or cut short, or holds or asks for anything else: it is
            told what and where. Nothing in it has been run.
    """
    machine = Machine(data, ArrayBuilder(2 * len(data)))
    try:
        found = machine.run()
    except PickleRefused as refused:
        raise DataError(f"the pickle is refused at byte {machine.at}: it {refused}") from None
    if not isinstance(found, dict) or not found:
        raise DataError("the pickle is refused: it holds no dict of arrays")
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in found.items():
        if not isinstance(value, Array) or value.values is None:
            raise DataError(f"the pickle is refused: its {name[:60]!r} is not an array of numbers")
        arrays[name] = value.values
    return arrays
