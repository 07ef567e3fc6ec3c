"""From a file and a name to a network: the one place where a file is imported by its path."""

import importlib.util
import inspect
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.errors import UsageError, suggestion
from dptrain.own.exceptions import own_code_error
from dptrain.own.functions import Function, PredictingFunction
from dptrain.own.generators import DRAWING, Generators
from dptrain.own.model import OwnModel
from dptrain.own.source_files import folder_with, imported

INITIAL = "initial_params"


def made(path: Path, name: str, arguments: Mapping[str, Any], seed: int) -> OwnModel:
    """Return the network that a file's class, or its function ``loss_and_gradient``, makes.

    A class is called with the arguments. Beside a function ``name(params, x, t)``, which returns
    loss and gradients, the file has ``initial_params(**arguments)``, which returns the dict of
    initial parameters, and may have ``predict(params, x)``.

    Args:
        path: of the file.
        name: in the file.
        arguments: by keyword.
        seed: of the experiment; NumPy's and Python's global generators, and those that the file
            and what it imports hold, are seeded with it before.

    Raises:
        UsageError: there is no such name, or the arguments do not fit.
        OwnCodeError: the file, the constructor or ``initial_params`` raised.
    """
    with DRAWING:
        _seed_globally(seed)
        return OwnModel(_subject(path, name, arguments, seed), name)


def _subject(path: Path, name: str, arguments: Mapping[str, Any], seed: int) -> Any:
    module = load(path)
    found = getattr(module, name, None)
    drawing = Generators(_modules(path, module))
    if not callable(found):
        near = suggestion(name, [key for key, value in vars(module).items() if callable(value)])
        raise UsageError(f"{path} has no class or function {name!r}{near}")
    with drawing.seeded(seed):
        if inspect.isclass(found):
            return _called(found, arguments, f"{path}: {name}")
        return _function(module, found, arguments, f"{path}: {INITIAL}")


def _modules(path: Path, module: ModuleType) -> list[dict[str, Any]]:
    """Return what a file defines, and what those define that it imports from its own tree."""
    files = {str(each) for each in imported(path)}
    others = [each for each in list(sys.modules.values()) if getattr(each, "__file__", 0) in files]
    return [vars(each) for each in (module, *others)]


class _Beside(MetaPathFinder):
    """Finds modules that a user's file imports and that nothing else has found.

    ``sys.path.append("..")`` means the folder above the present one, and so works only where the
    present folder is the file's own. Here it means the folder above that of the file as well; and
    the present folder is searched at last, as by ``python -m``.

    Attributes:
        folders: of the files that were loaded.
    """

    def __init__(self) -> None:
        self.folders: dict[Path, None] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - the protocol's signature
    ) -> ModuleSpec | None:
        """Return where a module is; None for parts of packages, whose own folders tell that."""
        if path is not None:
            return None
        relative = [each for each in sys.path if not os.path.isabs(each)]  # noqa: PTH117 - texts
        places = [os.path.normpath(file / each) for file in self.folders for each in relative]
        found = PathFinder.find_spec(fullname, [*places, str(Path.cwd())])
        if found is None or found.origin is not None:
            return found
        # a folder that only happens to have the name holds no code
        inside = found.submodule_search_locations or []
        return found if any(any(Path(each).glob("*.py")) for each in inside) else None


_beside = _Beside()


def load(path: Path) -> ModuleType:
    """Return a file as a module, imported once, with its folder searched first as by ``python``.

    Raises:
        OwnCodeError: the file raised.
    """
    path = path.resolve()
    name = path.stem
    if name in sys.modules and not _is_of(name, path):
        name = f"_own_{name}"  # a library, say, that has the name already
    if _is_of(name, path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.parent)
    sys.path.insert(0, folder)
    _beside.folders[path.parent] = None
    if _beside not in sys.meta_path:
        sys.meta_path.append(_beside)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        remedy = _where_to_start(path, error) if isinstance(error, ImportError) else ""
        raise own_code_error(f"the import of {path}", error, remedy) from error
    finally:
        # behind everything from now on, so that dptrain's own later imports are not taken over
        sys.path.remove(folder)
        sys.path.append(folder)
    return module


def _where_to_start(path: Path, error: ImportError) -> str:
    """Return what to do where a module of the user's own is not found, or ``""``."""
    if "no known parent package" in str(error):
        package = path.parent.name
        return (
            f"{path.name} is part of a package: name a file beside the folder {package} that has "
            f"the line: from {package}.{path.stem} import ..."
        )
    folder = folder_with(path, error.name) if error.name and not error.path else None
    if folder is None:
        return ""
    return f"{error.name} lies in {folder}: start there (cd {folder}), or set PYTHONPATH={folder}"


def _is_of(name: str, path: Path) -> bool:
    return getattr(sys.modules.get(name), "__file__", None) == str(path)


def _function(
    module: ModuleType, found: Callable[..., Any], arguments: Mapping[str, Any], what: str
) -> Function:
    initial = getattr(module, INITIAL, None)
    if not callable(initial):
        raise UsageError(
            f"{module.__file__} has a function {found.__name__!r}, but no function "
            f"{INITIAL}() that returns the dict of its initial parameters"
        )
    params = _called(initial, arguments, what)
    predict = getattr(module, "predict", None)
    return (
        Function(found, params) if predict is None else PredictingFunction(found, params, predict)
    )


def _called(function: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C
        signature = None
    if signature is not None:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise UsageError(
                f"{what}{signature} cannot be called with {dict(arguments)}: {error}; give its "
                "arguments as JSON, such as --model.args '{\"hidden_size\": 50}'"
            ) from None
    try:
        return function(**arguments)
    except (Exception, SystemExit) as error:
        raise own_code_error(f"{what}(...)", error) from error


def _seed_globally(seed: int) -> None:
    first, second = generator(seed, Purpose.OWN_CODE, 0).integers(2**32, size=2).tolist()
    np.random.seed(first)  # the global generators: such networks draw from them
    random.seed(second)
