"""A network that a script of the user's gives as an object, in the script and in its workers."""

import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dptrain.errors import UsageError
from dptrain.own.functions import Function, LossAndGradient, Params, PredictingFunction
from dptrain.own.graph import decode_object, encode_object
from dptrain.own.model import OwnModel
from dptrain.own.origin import Named, Origin
from dptrain.own.source_files import changed_sentence, digest_of, shown_path


class ObjectOrigin(Origin):
    """An object with the protocol, or a function with its parameters; see `dptrain.own.model`."""

    def __init__(
        self,
        network: object,
        params: Params | None = None,
        predict: Callable[[Params, Any], Any] | None = None,
    ) -> None:
        """Take the object; where it has ``params``, it begins with them.

        Args:
            network: the object or function ``loss_and_gradient(params, x, t)``.
            params: of the function.
            predict: of the function, if there is one: ``predict(params, x)``.

        Raises:
            UsageError: it is neither.
        """
        self._subject, self._name = _subject(network, params, predict)
        source = network if isinstance(network, types.FunctionType) else type(network)
        file = getattr(sys.modules.get(source.__module__), "__file__", None)
        self.model = f"{_short(file)}:{self._name}"
        self.digest = None
        if file is not None and Path(file).is_file():
            self.digest = digest_of(Path(file))
        self._file = file
        self._message = b""

    def make(self, arguments: Mapping[str, Any] | None, seed: int) -> OwnModel:  # noqa: ARG002
        """Return the object, as it is."""
        return OwnModel(self._subject, self._name)

    def changed(self) -> str:
        """Name the file in which the network's class or function stands, and what that imports."""
        return super().changed() if self._file is None else changed_sentence(Path(self._file))

    def message(self) -> bytes:
        """Tell everything about the object as it is at the first call.

        Raises:
            UsageError: it holds something that cannot be sent.
        """
        if not self._message:
            content = (self.model, self.digest, encode_object(self._subject, self._name))
            self._message = msgspec.msgpack.encode(("given", content))
        return self._message


class ReceivedOrigin(Origin):
    """The same in a worker."""

    def __init__(self, model: str, digest: str | None, data: bytes) -> None:
        """Keep what the worker's parent has sent; `make` makes the object."""
        self.model = model
        self.digest = digest
        self._data = data

    def make(self, arguments: Mapping[str, Any] | None, seed: int) -> OwnModel:  # noqa: ARG002
        """Return the object."""
        return OwnModel(decode_object(self._data), self.model.rpartition(":")[2])

    def message(self) -> bytes:
        """Workers start no workers."""
        raise NotImplementedError


def _subject(
    network: object,
    params: Params | None,
    predict: Callable[[Params, Any], Any] | None,
) -> tuple[object, str]:
    if isinstance(network, type):
        raise UsageError(f"{network.__name__} is a class; give an object of it")
    if hasattr(network, "params"):
        if params is not None or predict is not None:
            raise UsageError("params and predict are for a function; the network has its own")
        return network, type(network).__name__
    if not callable(network):
        raise UsageError(
            f"{network!r} is no network; give a dptrain.Network, an object with .params, "
            ".gradient(x, t) and .loss(x, t), or a function loss_and_gradient(params, x, t)"
        )
    name = getattr(network, "__name__", type(network).__name__)
    if params is None and callable(getattr(network, "parameters", None)):
        raise UsageError(
            f"{name} looks like a module of PyTorch; dptrain trains networks of its own, "
            "Network(784, [Dense(50), ReLU(), Dense(10)]), and objects with .params, "
            ".gradient(x, t) and .loss(x, t), in NumPy"
        )
    if params is None:
        raise UsageError(
            f"{name} is a function; give its initial parameters as well: params={{'W': ...}}"
        )
    function: LossAndGradient = network
    if predict is None:
        return Function(function, params), name
    return PredictingFunction(function, params, predict), name


def _short(file: str | None) -> str:
    """Return a file's path as somebody in the present folder would write it."""
    if file is None or not file.endswith(".py"):
        return "__main__.py"  # a notebook, or standard input
    return shown_path(Path(file))


def origin_of(message: bytes) -> Origin | None:
    """Return the origin that `Origin.message` tells of; None for an empty message.

    Only for messages from this worker's own parent, through the pipe between them.
    """
    if not message:
        return None
    kind, content = msgspec.msgpack.decode(message)
    if kind == "named":
        return Named(content)
    return ReceivedOrigin(*content)
