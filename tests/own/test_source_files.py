"""What belongs to a file: the digest of what it imports from its own tree."""

import hashlib
import os
from pathlib import Path

import pytest

from dptrain.errors import UsageError
from dptrain.own.object_origin import ObjectOrigin
from dptrain.own.origin import Named, code_meant
from dptrain.own.source_files import definitions, digest_of, folder_with, imported

NET = """
import sys, os
import numpy as np
sys.path.append(os.pardir)
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib", "extra"))
from shared.layers import *
import neighbour

class Net:
    def gradient(self, x, t):
        from late import slope
        return slope(x, t)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Write a tree in the form of the notes: ``part/net.py`` imports from ``shared``."""
    files = {
        "part/net.py": NET,
        "part/neighbour.py": "import json, dptrain, numpy",
        "part/late.py": "from neighbour import slope",
        "part/lib/extra/deep.py": "",
        "shared/__init__.py": "",
        "shared/layers.py": "from shared.functions import *\nfrom . import tools\nimport deep",
        "shared/functions.py": "from ..part import net  # in a circle",
        "shared/tools.py": "import shared.layers",
        "shared/unused.py": "",
        "json.py": "not the library",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(tree: Path) -> list[str]:
    return [os.path.relpath(each, tree) for each in imported(tree / "part/net.py")]


def test_what_a_file_imports_of_its_own_tree(tree: Path) -> None:
    assert names(tree) == [
        "part/late.py",
        "part/lib/extra/deep.py",
        "part/neighbour.py",
        "shared/__init__.py",
        "shared/functions.py",
        "shared/layers.py",
        "shared/tools.py",
    ]


def test_the_nearest_of_several(tree: Path) -> None:
    (tree / "part/shared").mkdir()
    (tree / "part/shared/layers.py").write_text("")
    assert names(tree) == ["part/late.py", "part/neighbour.py", "part/shared/layers.py"]


@pytest.mark.parametrize("name", ["shared/functions.py", "part/late.py", "shared/__init__.py"])
def test_the_digest_changes_with_what_is_imported(
    name: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tree / "part/net.py"
    before = digest_of(file)
    (tree / "shared/unused.py").write_text("# no matter")
    monkeypatch.chdir(tree / "part")
    assert digest_of(Path("net.py")) == digest_of(Path("../part/net.py")) == before
    (tree / name).write_text((tree / name).read_text() + "\n# something else")
    os.utime(tree / name, (4e9, 4e9))
    assert digest_of(file) != before
    last = os.path.relpath(tree / name) if name.startswith("part") else str(tree / name)
    with pytest.raises(UsageError) as caught:
        Named(f"{file}:Net").check("net.py:Net", before)
    assert f"or a file that it imports, has changed (written last: {last})" in str(caught.value)


def test_the_digest_of_a_tree_in_another_place(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "copy"
    tree.rename(other)
    before = digest_of(other / "part/net.py")
    other.rename(tree)
    assert digest_of(tree / "part/net.py") == before


@pytest.mark.parametrize("text", ["import numpy, json, nowhere", "class Broken(:", "x = '\0'"])
def test_a_file_by_itself_has_the_digest_of_its_bytes(text: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(text)
    assert digest_of(file) == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_of_an_object() -> None:
    from tests.own.nets import Net

    file = Path(__file__).parent / "nets.py"
    assert ObjectOrigin(Net()).digest == digest_of(file)
    with pytest.raises(UsageError, match=r"tests/own/nets.py has changed: the experiment"):
        ObjectOrigin(Net()).check("tests/own/nets.py:Net", "0" * 64)


def test_where_a_module_lies(tree: Path) -> None:
    file = tree / "part/net.py"
    assert folder_with(file, "shared.layers") == tree
    assert folder_with(file, "late") == tree / "part"
    assert folder_with(file, "nowhere_at_all") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("class A:\n def gradient(self): 0\nclass B:\n def loss(self): 0\nclass C: 0", ["A"]),
        ("class B:\n def loss(self): 0\nclass C: 0\nclass D(B): 0", ["B", "D"]),
        ("def initial_params(a, b, c): 0\ndef f(p, x, t): 0\ndef g(x): 0", ["f"]),
        ("def f(p, x, t): 0", []),
        ("class (", []),
    ],
)
def test_what_a_file_defines(text: str, found: list[str], tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(text)
    assert definitions(file) == found
    choices = " or ".join(f"{file}:{each}" for each in found or ["NAME"])
    for model in (str(file), f"{file}:", str(file.with_suffix(""))):
        assert code_meant(model).endswith(f"name the class or function in it as well: {choices}")
    assert code_meant(f"{file.with_suffix('')}:Net").endswith(f"file's name: {file}:Net")


def test_what_means_no_code(tmp_path: Path) -> None:
    assert [*map(code_meant, ("mlp:4-3", "two_layer", "run/experiment.toml"))] == ["", "", ""]
    (tmp_path / "network.py").touch()
    missing = f"{tmp_path / 'netwrk.py'}"
    assert code_meant(missing).endswith(f"no file {missing}; did you mean 'network.py'?")
