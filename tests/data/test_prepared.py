"""The cache: made once, found again, remade when damaged, never half made."""

import binascii
import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dptrain.data import prepared
from dptrain.data.dataset import open_dataset
from dptrain.data.npy import npy_header
from dptrain.data.prepared import prepare
from dptrain.data.raw import RawData
from dptrain.data.source import ReadChoices, Source, read
from dptrain.data.spool import Room
from dptrain.errors import DataError, UsageError

X = np.arange(24.0).reshape(8, 3) / 7
T = np.arange(8) % 3
MARK = {"size": 224, "crc32": 0}


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "small.npz"
    np.savez(path, x_train=X, t_train=T, x_test=X[:2], t_test=T[:2])
    return str(path)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.name != "sound.json"
    }


def check_contents(folder: Path) -> None:
    dataset = open_dataset(folder, validation=0, test=0, seed=0)
    np.testing.assert_array_equal(dataset.train.inputs, X.astype(np.float32), strict=True)
    np.testing.assert_array_equal(dataset.train.targets, T, strict=True)
    np.testing.assert_array_equal(dataset.test.inputs, X[:2].astype(np.float32), strict=True)
    np.testing.assert_array_equal(dataset.test.targets, T[:2], strict=True)


def test_the_folder_holds_plain_npy_files_and_what_they_are(source: str, cache: Path) -> None:
    folder = prepare(source, dtype="float32")
    assert folder.parent == cache
    assert list(cache.iterdir()) == [folder], "nothing but the folder"
    check_contents(folder)
    meta = json.loads((folder / "meta.json").read_text())
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.npy")}
    recorded = meta.pop("files")
    assert {name: mark["size"] for name, mark in recorded.items()} == sizes
    for name, mark in recorded.items():
        assert mark["crc32"] == binascii.crc32((folder / name).read_bytes())
    assert sizes.keys() == {"x_train.npy", "t_train.npy", "x_test.npy", "t_test.npy"}
    assert meta.pop("crc32") > 0
    digest = meta.pop("digest")
    assert len(bytes.fromhex(digest)) == 32
    assert meta == {
        "version": 8,
        "offsets": [],
        "name": "small",
        "source": source,
        "dtype": "float32",
        "classes": 3,
        "class_names": ["0", "1", "2"],
        "rounded": [],
        "scale": {"low": float(X.min()), "high": float(X.max())},
        "form": None,
        "notes": [],
    }


def test_a_second_call_changes_nothing(source: str) -> None:
    folder = prepare(source, dtype="float32")
    before = state(folder)
    assert prepare(source, dtype="float32") == folder
    assert state(folder) == before


def test_mnist_is_found_again(mnist_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPTRAIN_CACHE", str(mnist_folder.parent))
    before = state(mnist_folder)
    assert prepare("mnist", dtype="float32") == mnist_folder
    assert state(mnist_folder) == before


def test_a_warm_cache_imports_no_reader_of_archives(source: str) -> None:
    prepare(source, dtype="float32")
    code = (
        "import sys; from dptrain.data import prepare; prepare(sys.argv[1], dtype='float32');"
        "print([m for m in ('zipfile', 'PIL', 'matplotlib', 'zmq', 'rich') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, source], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"


def test_the_key_is_the_contents_the_name_the_label_and_the_dtype(
    tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("u,v\n1,0\n0,1\n")
    folders = [
        prepare(str(path), dtype="float32"),
        prepare(str(path), dtype="float64"),
        prepare(str(path), ReadChoices(label="u"), dtype="float32"),
        prepare(str(path), ReadChoices(label="v"), dtype="float32"),
    ]
    path.write_text("u,v\n1,0\n0,2\n")
    folders.append(prepare(str(path), dtype="float32"))
    assert len(set(folders)) == 4
    assert folders[0] == folders[3], "v is the label without a word as well"
    elsewhere = tmp_path / "elsewhere" / "a.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(path.read_bytes())
    assert prepare(str(elsewhere), dtype="float32") == folders[-1]
    digests = [json.loads((folder / "meta.json").read_text())["digest"] for folder in folders]
    assert digests[0] == digests[1], "the dtype belongs to the run, not to the data"
    assert len(set(digests)) == 3


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, size)


def set_meta(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps(meta | changes))

    return change


def break_header(start: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        with (folder / "x_train.npy").open("r+b") as file:
            file.write(start)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "x_train.npy").unlink(),
        lambda folder: (folder / "t_test.npy").unlink(),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "meta.json").write_bytes(b"\xff{"),
        lambda folder: [path.unlink() for path in folder.iterdir()],
        cut("x_train.npy", 200),
        cut("x_train.npy", 10_000),
        cut("t_train.npy", 0),
        cut("meta.json", 20),
        set_meta(version=0),
        set_meta(extra=1),
        set_meta(class_names=["0", "2", "1"]),
        set_meta(files={}),
        set_meta(files=dict.fromkeys(("x_train.npy", "t_train.npy", "../x.npy"), MARK)),
        break_header(b"damaged"),
        break_header(npy_header((5, 3), np.dtype(np.float32))[:100] + b"("),
        break_header(npy_header((10**9, 3), np.dtype(np.float32))),
    ],
)
def test_a_damaged_entry_is_remade(damage: Callable[[Path], object], source: str) -> None:
    folder = prepare(source, dtype="float32")
    damage(folder)
    with pytest.raises(DataError, match="no intact prepared data set"):
        open_dataset(folder, validation=0, test=0, seed=0)
    assert prepare(source, dtype="float32") == folder
    check_contents(folder)


CONCURRENT = """
import sys
from dptrain.data import prepare
print("ready", flush=True)
sys.stdin.readline()
print(prepare(sys.argv[1], dtype="float64"))
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_may_prepare_at_once(damaged: bool, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "large.npz"
    x = np.random.default_rng(0).integers(0, 256, (20_000, 100), np.uint8)
    np.savez(path, x_train=x, t_train=x[:, 0])
    if damaged:
        cut("x_train.npy", 5000)(prepare(str(path), dtype="float64"))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONCURRENT, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert answers == {str(next(cache.iterdir()))}
    assert len(list(cache.iterdir())) == 1, "a temporary folder was left behind"
    dataset = open_dataset(Path(answers.pop()), validation=0, test=0, seed=0)
    np.testing.assert_array_equal(dataset.train.inputs, x, strict=True)


FULL_DISK = """
import resource, sys
from dptrain.data import prepare
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
prepare(sys.argv[1], dtype="float32")
"""


def test_a_full_disk_names_the_folder_the_size_and_the_remedy(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.zeros((10_000, 50)), t_train=np.zeros(10_000, np.int64))
    found = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False
    )
    message = found.stderr.splitlines()[-1]
    assert message.startswith(f"dptrain.errors.DataError: {cache}: the prepared data set (2.1 MB)")
    assert "File too large" in message
    assert "DPTRAIN_CACHE=DIR" in message
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "below a file", "system"])
def test_a_folder_that_cannot_be_written(
    place: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"file": source, "below a file": f"{source}/cache", "system": "/proc/cache"}[place]
    monkeypatch.setenv("DPTRAIN_CACHE", folder)
    with pytest.raises(
        DataError, match=r"\(0\.0 MB\) cannot be written.*DPTRAIN_CACHE=DIR"
    ) as caught:
        prepare(source, dtype="float32")
    assert str(caught.value).startswith(folder)


def test_leftovers_of_crashed_attempts_are_swept(source: str, cache: Path) -> None:
    left, busy = (cache / f".preparing-{pid}-0" for pid in (2**30, 2**30 + 1))
    for folder in (left, busy):
        folder.mkdir(parents=True)
        (folder / "x_train.npy").touch()
    descriptor = os.open(busy, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    prepare(source, dtype="float32")
    os.close(descriptor)
    assert not left.exists()
    assert (busy / "x_train.npy").exists(), "a process that is not seen here holds it"


def test_whoever_may_enter_the_cache_may_read_what_is_in_it(source: str, cache: Path) -> None:
    cache.mkdir()
    for mode in (0o755, 0o700):
        cache.chmod(mode)
        folder = prepare(source, dtype="float32" if mode == 0o755 else "float64")
        assert stat.S_IMODE(folder.stat().st_mode) == mode


def test_without_the_variable_it_is_the_users_cache_folder(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DPTRAIN_CACHE", "")
    folder = prepare(source, dtype="float32")
    assert folder.parent == tmp_path / "home" / "dptrain"


def test_a_relative_cache_folder_is_named_in_full(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPTRAIN_CACHE", "here")
    assert prepare(source, dtype="float32").parent == tmp_path / "here"


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    path.write_text("1,0\n2,1\n")
    folder = prepare(str(path), dtype="float32")
    assert json.loads((folder / "meta.json").read_text())["name"] == "caf\ufffd"


def test_a_source_that_changes_while_it_is_read_is_not_cached(
    source: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_change(source: Source, choices: ReadChoices, room: Room) -> RawData:
        data = read(source, choices, room)
        np.savez(source.files[0], x_train=X + 1, t_train=T)
        return data

    monkeypatch.setattr(prepared, "read", read_and_change)
    with pytest.raises(DataError, match="changed while it was read"):
        prepare(source, dtype="float32")
    assert not cache.exists()


def test_data_that_cannot_be_trained_on_leave_nothing_behind(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.npz"
    bad = np.zeros((40_000, 50))
    bad[39_999, 7] = np.nan
    np.savez(path, x_train=bad, t_train=np.zeros(40_000, np.int64))
    with pytest.raises(DataError, match="x_train holds nan in row 39999, column 7"):
        prepare(str(path), dtype="float64")
    assert list(cache.iterdir()) == []


def test_mistakes_are_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dtype='float16' must be float32 or float64"):
        prepare("mnist", dtype="float16")  # type: ignore[arg-type]
    (tmp_path / "train-images-idx3-ubyte").symlink_to("nowhere")
    with pytest.raises(DataError, match="holds no train-images"):
        prepare(str(tmp_path), dtype="float32")
