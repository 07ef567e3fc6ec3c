"""Files find their own modules from whatever folder dptrain is started in."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dptrain.errors import OwnCodeError
from dptrain.own.loading import load
from tests.commands import dptrain, result
from tests.own.nets import EXAMPLES
from tests.sessions import write_dataset


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """Forget what was imported, and where it was looked for."""
    modules, paths = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


UP = "import sys, os\nsys.path.append({})\n"


@pytest.mark.parametrize("package", [True, False])
@pytest.mark.parametrize("above", ["os.pardir", "'..'", "'./..'", "os.path.abspath('..')", "''"])
def test_a_folder_above(
    above: str, package: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shared_a/layers.py", "N = 3")
    if package:
        write(tmp_path / "shared_a/__init__.py", "")
    file = write(tmp_path / "part/net_a.py", UP.format(above) + "from shared_a.layers import N")
    monkeypatch.chdir(tmp_path)
    if "abspath" not in above and above != "''":
        monkeypatch.chdir(tmp_path.parent)
    assert load(file).N == 3


def test_a_module_that_is_imported_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "late_b.py", "N = 4")
    text = UP.format("os.pardir") + "def f():\n from late_b import N\n return N"
    module = load(write(tmp_path / "part/net_b.py", text))
    monkeypatch.chdir(tmp_path.parent)
    assert module.f() == 4


def test_what_is_still_not_found_is_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shared_c/__init__.py", "")
    file = write(tmp_path / "part/net_c.py", "import shared_c.layers")
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(OwnCodeError) as caught:
        load(file)
    remedy = f"shared_c lies in {tmp_path}: start there (cd {tmp_path}), or set PYTHONPATH="
    assert remedy in caught.value.what
    write(tmp_path / "shared_c/layers.py", "")
    monkeypatch.chdir(tmp_path)
    assert load(file).__name__ == "net_c"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("from ..layers import x", "the line: from part.net_d import ..."),
        ("from .layers import x", "name a file beside the folder part"),
        ("import nowhere_at_all", ""),
        ("from json import nothing_there", ""),
    ],
)
def test_imports_that_cannot_work(text: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(OwnCodeError) as caught:
        load(write(tmp_path / "part/net_d.py", text))
    assert hint in caught.value.what
    assert ";" not in caught.value.what or hint


def test_a_folder_without_code_is_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nothing_e").mkdir()
    monkeypatch.chdir(tmp_path)
    text = "try:\n import nothing_e\nexcept ImportError:\n nothing_e = None"
    assert load(write(tmp_path / "part/net_e.py", text)).nothing_e is None


def test_workers_import_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_dataset(tmp_path / "small.npz")
    write(tmp_path / "tree/shared_f/nets.py", (EXAMPLES / "own_network.py").read_text())
    text = UP.format("os.pardir") + "from shared_f.nets import TwoLayerNet as Net"
    write(tmp_path / "tree/part/net_f.py", text)
    sizes = json.dumps({"input_size": 20, "hidden_size": 7, "output_size": 3})
    job = ("train", "--dataset", data, "--steps", 3, "--model.args", sizes, "--workers", 2)
    found: list[str] = []
    for folder, model in (("tree", "part/net_f.py"), ("tree/part", "net_f.py")):
        monkeypatch.chdir(tmp_path / folder)
        out = tmp_path / f"run{len(found)}"
        found.append(result(*job, "--model", f"{model}:Net", "--out", out)["digest"])
    assert found[0] == found[1]
    done = dptrain("train", "--dataset", data, "--model", "net_f.py")
    assert done.returncode == 2
    assert "'net_f.py' is a file" in done.stderr
