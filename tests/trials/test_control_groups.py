"""What control groups leave of memory and cores, and affinity with them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dptrain.cli.__main__ import main
from dptrain.experiment.execution import Execution, settle_execution
from dptrain.machine import groups
from dptrain.machine.cores import usable_cores
from dptrain.machine.memory import available_memory
from tests.sessions import write_dataset

MB = 1 << 20
Files = dict[str, str]
Lay = Callable[[str, Files], None]


@pytest.fixture
def lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lay:
    """Lay out files of control groups, of which this process is a member as the first says."""

    def laid(membership: str, files: Files) -> None:
        monkeypatch.setattr(groups, "MEMBERSHIP", tmp_path / "membership")
        monkeypatch.setattr(groups, "ROOT", tmp_path / "cgroup")
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return laid


def memory(folder: str, limit: str, used: int, inactive: int = 0) -> Files:
    return {
        f"{folder}memory.max": f"{limit}\n",
        f"{folder}memory.current": f"{used}\n",
        f"{folder}memory.stat": f"anon 17\nslab 9\nslab_reclaimable {inactive // 4}\n"
        f"inactive_file {inactive // 2}\nactive_file {inactive - inactive // 2 - inactive // 4}\n",
    }


def memory_1(folder: str, limit: int, used: int, inactive: int) -> Files:
    return {
        f"{folder}memory.limit_in_bytes": f"{limit}\n",
        f"{folder}memory.usage_in_bytes": f"{used}\n",
        f"{folder}memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive // 2}\n"
        f"total_active_file {inactive - inactive // 2}\n",
    }


@pytest.mark.parametrize(
    ("membership", "files", "left"),
    [
        ("0::/\n", memory("", str(9 * MB), 8 * MB, 5 * MB), 6 * MB),
        ("0::/a/b\n", memory("a/b/", "max", MB) | memory("a/", str(9 * MB), 2 * MB), 7 * MB),
        ("0::/a/b\n", memory("a/b/", str(3 * MB), MB) | memory("a/", str(9 * MB), 0), 2 * MB),
        ("0::/elsewhere\n", memory("", str(9 * MB), 2 * MB), 7 * MB),  # as in a container
        ("0::/../../x\n", memory("", str(9 * MB), 2 * MB), 7 * MB),
        ("0::/a\n", {"a/memory.high": f"{4 * MB}\n"} | memory("a/", "max", MB), 3 * MB),
        ("0::/\n", memory("", str(9 * MB), 10 * MB), 0),
        (
            "0::/\n7:memory:/user/x\n",
            memory_1("memory/", 1 << 62, 0, 0) | memory_1("memory/user/x/", 9 * MB, 8 * MB, MB),
            2 * MB,
        ),
        ("7:memory:/docker/1\n", memory_1("memory/", 9 * MB, 8 * MB, MB), 2 * MB),
        ("7:memory:/x\n", {"unified/memory.max": "no number"} | memory_1("memory/", 5, 0, 0), 5),
    ],
)
def test_memory(membership: str, files: Files, left: int, lay: Lay) -> None:
    lay(membership, files)
    assert available_memory() == left


def test_without_limits_it_is_the_machines(lay: Lay) -> None:
    lay("0::/\n", memory("", "max", 5))
    assert available_memory() > 64 * MB


def test_a_run_where_nearly_all_is_cache(
    lay: Lay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay("0::/\n", memory("", str(536870912), 536000000, 500000000))
    data = write_dataset(tmp_path / "small.npz")
    job = ["train", "--dataset", str(data), "--model", "mlp:20-7-3", "--steps", "2"]
    assert main([*job, "--out", str(tmp_path / "run")]) == 0
    assert main(["doctor"]) == 0
    assert "477 MB left in the control group" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        (
            "3:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "400000", "cpu,cpuacct/x/cpu.cfs_period_us": "1e5"},
            8,
        ),
        (
            "3:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "40000", "cpu,cpuacct/x/cpu.cfs_period_us": "10000"},
            4,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_cores(
    membership: str, files: Files, cores: int, lay: Lay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    lay(membership, files)
    assert usable_cores() == cores
    automatic = settle_execution(Execution(workers="auto"), 16)
    assert automatic.workers == cores
    assert automatic.exchange == ("inline" if cores == 1 else "shared")


def test_one_core_by_affinity_and_many_workers_get_a_word(
    lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay("0::/\n", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert settle_execution(Execution(workers="auto"), None).workers == 1
    data = write_dataset(tmp_path / "small.npz")
    job = ["train", "--dataset", str(data), "--model", "mlp:20-7-3", "--steps", "2"]
    for workers, said in (([], True), (["--workers", "1"], False), (["--workers", "5"], True)):
        assert main([*job, *workers, "--out", str(tmp_path / f"run{workers[-1:]}")]) == 0
        told = capsys.readouterr().err
        assert ("workers share one usable core: they take turns" in told) == said
    assert main(["doctor"]) == 0
    assert "1 usable" in capsys.readouterr().out
