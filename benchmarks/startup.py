"""Start-up, and the memory of workers: from typing `dptrain train` to the first step.

    python -m benchmarks.startup

The data cache is warm. Memory is that of each worker at its largest: what it has alone (USS), and
with its share of what is mapped by several processes, such as the data set (PSS).
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROUNDS = 7


def once(workers: int) -> tuple[float, list[tuple[int, int]]]:
    """Return the seconds to the first step, and (USS, PSS) of each worker."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        settings = ["--workers", str(workers), "--steps", "600", "--log-every", "1"]
        command = [sys.executable, "-m", "dptrain.cli", "train", *settings, "--out", str(out)]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        metrics = out / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.001)
        first = time.perf_counter() - began
        peaks: dict[int, tuple[int, int]] = {}
        while process.poll() is None:
            for child in psutil.Process(process.pid).children():
                try:
                    memory = child.memory_full_info()
                except psutil.Error:
                    continue
                uss, pss = peaks.get(child.pid, (0, 0))
                peaks[child.pid] = (max(uss, memory.uss), max(pss, memory.pss))
            time.sleep(0.02)
        json.loads(process.communicate()[0])
        return first, list(peaks.values())


def main() -> None:
    """Print start-up times and memory."""
    for workers in (1, 2):
        runs = [once(workers) for _ in range(ROUNDS)]
        times = [first for first, _ in runs]
        print(
            f"{workers} worker{'s' * (workers > 1)}: first step after "
            f"{statistics.median(times):.2f} s (median of {ROUNDS}; {min(times):.2f} to "
            f"{max(times):.2f} s)"
        )
        for uss, pss in runs[-1][1]:
            print(f"  a worker's peak memory: {uss >> 20} MB alone, {pss >> 20} MB with its share")


if __name__ == "__main__":
    main()
