"""The memory that preparing a data set takes, beside the size of its file.

    python -m benchmarks.memory

Each file is prepared in a process of its own, with an empty cache. Two figures are told, both
beyond what the process has before: its largest resident size, and the largest part of that which
belongs to no file. The rest are pages of files, which the system takes back where memory is scarce.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dptrain.data.prepared import prepare, prepare_arrays


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield what a file is and the file, one after the other."""
    random = np.random.default_rng(0)
    some = random.standard_normal((200_000, 20), np.float32)
    lines = [",".join(f"{v:.4f}" for v in row) for row in some]
    rows = "".join(f"{line},{int(row[0] > 0)}\n" for line, row in zip(lines, some, strict=True))
    prices = "".join(f"{line}\n" for line in lines)
    names = ",".join(f"c{i}" for i in range(20))
    table = folder / "a.csv"
    for what, header, body in (("classes", f"{names},label", rows), ("numbers", names, prices)):
        table.write_text(f"{header}\n{body * 6}")
        yield f"table, {what} to predict", table
    grey = random.integers(0, 256, (60_000, 40, 50), np.uint8)
    numbers = random.standard_normal((825_000, 40), np.float32)
    for what, x in (("float32", numbers), ("uint8", grey)):
        np.savez(folder / "a.npz", x_train=x, t_train=np.arange(len(x)) % 2)
        yield f"archive of {what}", folder / "a.npz"
    np.save(folder / "a.npy", numbers)
    yield "mapped array of float32", folder / "a.npy"


def resident() -> tuple[int, int]:
    """Return what this process had in memory at most, and what of no file it has, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    high, private = (int(found[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon"))
    return high, private


def prepared(path: Path, folder: Path) -> None:
    """Prepare a file, and print by how much both grow meanwhile."""
    high, private = resident()
    most, done = private, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, resident()[1])

    watcher = threading.Thread(target=watch)
    watcher.start()
    if path.suffix == ".npy":
        x = np.load(path, mmap_mode="r")
        prepare_arrays(folder, x_train=x, t_train=np.arange(len(x)) % 2, dtype="float32")
    else:
        prepare(str(path), dtype="float32")
    done.set()
    watcher.join()
    print(resident()[0] - high, most - private)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        for what, path in files(Path(folder)):
            with tempfile.TemporaryDirectory() as cache:
                arguments = [sys.executable, "-m", __spec__.name, str(path), f"{cache}/arrays"]
                told = subprocess.run(
                    arguments,
                    env=os.environ | {"DPTRAIN_CACHE": f"{cache}/files"},
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            peak, private = map(int, told.split())
            size = path.stat().st_size
            print(
                f"{what}, {size / 1e6:.0f} MB: {peak / 1e6:.0f} MB resident, "
                f"{private / 1e6:.0f} MB of no file ({private / size:.2f} of its size)"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        prepared(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()
