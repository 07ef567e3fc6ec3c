"""Where a network of the user's own comes from. Imports no mathematics: it may have to be refused.

Code is run only because the user named it: on the command line of the very process that runs it
(`Named`), or as an object in a script of the user's (`dptrain.own.object_origin.ObjectOrigin`),
which reaches the workers that this script starts through a pipe they inherit. What an experiment, a
checkpoint or a message over the network says about code is compared with that, and never obeyed.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dptrain.errors import UsageError, suggestion
from dptrain.invocation import word
from dptrain.own.source_files import changed_sentence, definitions, digest_of

if TYPE_CHECKING:
    from dptrain.own.model import OwnModel


_NO_CODE = "model={!r} does not name code; give FILE.py:NAME, such as my_net.py:TwoLayerNet"


def is_own(model: str) -> bool:
    """Return whether a model's name is that of code: ``FILE.py:NAME``."""
    return model.rpartition(":")[0].endswith(".py")


def own_name(model: str) -> str:
    """Return what ``FILE.py:NAME`` names in its file."""
    return model.rpartition(":")[2]


def code_meant(model: str) -> str:
    """Return what to say of a model's name that is not ``FILE.py:NAME``, but seems to mean code.

    ``""`` where it does not.
    """
    stem = model.rstrip(":")
    file, _, name = model.rpartition(":")
    for path in (Path(stem), Path(f"{stem}.py")):
        if path.suffix == ".py" and path.is_file():
            found = [f"{path}:{each}" for each in definitions(path)] or [f"{path}:NAME"]
            return (
                f"model={model!r} is a file; name the class or function in it as well: "
                f"{' or '.join(found)}"
            )
    if name and Path(f"{file}.py").is_file():  # written like a module
        return f"model={model!r} lacks the end of the file's name: {file}.py:{name}"
    if stem.endswith(".py"):
        near = suggestion(Path(stem).name, (each.name for each in Path(stem).parent.glob("*.py")))
        return f"model={model!r}: there is no file {stem}{near}"
    return ""


def naming(model: str) -> str:
    """Return what a command line needs besides where a model is code, with a space before it."""
    return f" --model {word(model)}" if is_own(model) else ""


def demand(model: str, origin: "Origin | None", command: str = "") -> None:
    """Raise `UsageError` where an experiment's model is code that the user has not named.

    ``command`` is where to name it, if there may be doubt.
    """
    if is_own(model) and origin is None:
        raise UsageError(
            f"the experiment's network is code, {model}, and code is imported only where you name "
            f"it yourself: add --model {word(model)}" + f" to {command}" * bool(command)
        )


class Origin(ABC):
    """Makes the network of the user's own.

    Attributes:
        model: its name, ``FILE.py:NAME``, as experiments record it.
        digest: SHA-256, in hex, of the file and of what it imports from its own tree; None where
            there is no file. See `dptrain.own.source_files.digest_of`.
    """

    model: str
    digest: str | None

    @abstractmethod
    def make(self, arguments: Mapping[str, Any] | None, seed: int) -> "OwnModel":
        """Return the network.

        Args:
            arguments: for its constructor, by keyword.
            seed: of the experiment; what the constructor draws depends on nothing else.

        Raises:
            UsageError: there is no such network, or it lacks something.
            OwnCodeError: the user's code raised.
        """

    @abstractmethod
    def message(self) -> bytes:
        """Return bytes of which `dptrain.own.object_origin.origin_of` makes it in a worker."""

    def check(self, model: str, digest: str | None) -> None:
        """Raise `UsageError` where an experiment was recorded with other code."""
        if own_name(model) != own_name(self.model):
            raise UsageError(
                f"--model {self.model} is not what the experiment was recorded with; "
                f"add --model {word(model)}"
            )
        if digest is not None and self.digest is not None and digest != self.digest:
            raise UsageError(
                f"{self.changed()}: the experiment was recorded with SHA-256 {digest[:12]}, now it "
                f"is {self.digest[:12]}; restore the file, or remove model_digest from an "
                "experiment.toml to train anew with what is there"
            )

    def changed(self) -> str:
        """Return how a sentence begins where the digest is not what it was."""
        return f"{self.model.rpartition(':')[0]} has changed"


class Named(Origin):
    """A class or function that the user has named on the command line of this process.

    Attributes:
        path: of the file.
        name: of the class or function in it.
    """

    def __init__(self, model: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Find the file; nothing of it is run before `make`.

        Args:
            model: ``FILE.py:NAME``.
            arguments: in place of those of the experiment.

        Raises:
            UsageError: this is not ``FILE.py:NAME``, or there is no such file.
        """
        file, _, self.name = model.rpartition(":")
        if not is_own(model) or not self.name.isidentifier():
            raise UsageError(code_meant(model) or _NO_CODE.format(model))
        self.model = model
        self.path = Path(file)
        self._arguments = arguments
        try:
            self.digest = digest_of(self.path)
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            near = suggestion(self.path.name, (p.name for p in self.path.parent.glob("*.py")))
            raise UsageError(f"--model {model}: {file}: {reason}{near}") from None

    def make(self, arguments: Mapping[str, Any] | None, seed: int) -> "OwnModel":
        """Import the file and make the network; see `Origin`."""
        from dptrain.own.loading import made  # here, because it imports NumPy

        return made(self.path, self.name, self._arguments or arguments or {}, seed)

    def changed(self) -> str:
        """Name the file, and of what it imports the file that was written last."""
        return changed_sentence(self.path)

    def message(self) -> bytes:
        """Name the file by its whole path."""
        return msgspec.msgpack.encode(("named", f"{self.path.resolve()}:{self.name}"))
