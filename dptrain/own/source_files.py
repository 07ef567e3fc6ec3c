"""What a file of the user's says, read without running it: what it imports, and what it defines."""

import ast
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

_NEVER = frozenset(("dptrain", *sys.builtin_module_names))
_HERE = Path(__file__).resolve().parents[1]
_LIBRARIES = frozenset(
    Path(sysconfig.get_path(each)).resolve()
    for each in ("stdlib", "platstdlib", "purelib", "platlib")
)


def digest_of(path: Path) -> str:
    """Return the SHA-256, in hex, of a file and of what it imports from its own tree.

    Of the file alone where it imports nothing of it. It depends on the names and contents of the
    files, and not on where the tree lies, the present folder or what was imported before.

    Raises:
        OSError: the file cannot be read.
    """
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    folder = path.resolve().parent
    lines = [
        f"{Path(os.path.relpath(each, folder)).as_posix()} {hashlib.sha256(content).hexdigest()}"
        for each, content in imported(path).items()
    ]
    return hashlib.sha256("\n".join([own, *lines]).encode()).hexdigest() if lines else own


def imported(path: Path) -> Mapping[Path, bytes]:
    """Return the files of its own tree that a file imports, or these in turn, with their content.

    Every import statement counts, wherever it stands. A module is looked for in the file's folder,
    in the folders that its text puts on ``sys.path``, and in those above it, nearest first;
    libraries are left out.
    """
    start = path.resolve()
    above = [each for each in start.parents if not _is_library(each)]
    found: dict[Path, bytes] = {}
    todo, named = [start], list[Path]()
    for file in todo:  # which grows
        try:
            content = file.read_bytes()
            tree = ast.parse(content)
        except (OSError, SyntaxError, ValueError):  # the import of it will tell
            continue
        found[file] = content
        named += _named_folders(tree, file.parent)
        folders = [*above[:1], *named, *above[1:]]
        for level, parts in _imports(tree):
            if level:
                places = [file.parents[level - 1]] if level <= len(file.parents) else []
            elif parts[0] in _NEVER:
                continue
            else:
                places = folders[:1] if parts[0] in sys.stdlib_module_names else folders
            files = next(filter(None, (_modules(each, parts) for each in places)), [])
            todo += [each for each in files if each not in todo]
    found.pop(start, None)
    return dict(sorted(found.items()))


def changed_sentence(path: Path) -> str:
    """Return how a sentence begins where the digest of a file is not what it was."""
    files = [*imported(path)]
    if not files:
        return f"{path} has changed"
    last = max((path, *files), key=lambda each: each.stat().st_mtime)
    return f"{path}, or a file that it imports, has changed (written last: {shown_path(last)})"


def shown_path(path: Path) -> str:
    """Return a path as somebody in the present folder would write it."""
    whole = path.resolve()
    return os.path.relpath(whole) if whole.is_relative_to(Path.cwd()) else str(whole)


def folder_with(path: Path, module: str) -> Path | None:
    """Return the folder nearest above a file in which a module lies; None where there is none."""
    parts = module.split(".")[:1]
    return next((each for each in path.resolve().parents if _lies_in(each, parts[0])), None)


def definitions(path: Path) -> list[str]:
    """Return the names in a file that ``FILE.py:NAME`` could mean: the likeliest kind alone.

    Classes that have ``gradient`` or ``loss_and_gradient``, or else all classes that have bases or
    a ``loss``; and functions of three arguments, where the file has ``initial_params``.
    """
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    classes = {each.name: each for each in body if isinstance(each, ast.ClassDef)}
    functions = {each.name: each for each in body if isinstance(each, ast.FunctionDef)}
    methods = {
        name: {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
        for name, node in classes.items()
    }
    found = [n for n, has in methods.items() if has & {"gradient", "loss_and_gradient"}]
    found = found or [n for n, has in methods.items() if "loss" in has or classes[n].bases]
    if "initial_params" in functions:
        found += [
            name
            for name, each in functions.items()
            if len(each.args.args) == 3 and name != "initial_params"
        ]
    return found


def _imports(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Yield the level and the parts of every module that may be imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, each.name.split(".")) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            # what is imported from a package may be a module itself
            yield from ((node.level, [*base, each.name]) for each in node.names)


def _modules(folder: Path, parts: list[str]) -> list[Path]:
    """Return the files of a module in a folder, and those of the packages around it."""
    found = []
    for i in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:i])
        found += [place / "__init__.py", place.with_name(f"{place.name}.py")]
    return [each for each in found if each.is_file()]


def _named_folders(tree: ast.AST, folder: Path) -> Iterator[Path]:
    """Yield what calls such as ``sys.path.append("lib")`` name, relative to the file's folder.

    Of an expression its texts are taken, one in the other: ``join(dirname(__file__), "..", "lib")``
    is ``../lib``. What stands above the file is looked through in any case.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "sys.path.append",
            "sys.path.insert",
        ):
            texts = [
                each.value
                for argument in node.args
                for each in ast.walk(argument)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
            if texts:
                yield folder.joinpath(*texts).resolve()


def _lies_in(folder: Path, name: str) -> bool:
    package = folder / name
    return (folder / f"{name}.py").is_file() or any(package.glob("*.py"))


def is_library(file: str) -> bool:
    """Return whether a file belongs to Python, to an installed library or to dptrain."""
    places = Path(file).resolve().parents
    return _HERE in places or any(map(_is_library, places))


def _is_library(folder: Path) -> bool:
    return folder in _LIBRARIES or folder.name in ("site-packages", "dist-packages")
