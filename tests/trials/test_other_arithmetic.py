"""Runs that were computed on another kind of processor, or by another NumPy."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dptrain.arithmetic.platform import arithmetic
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.records import ArithmeticRecord
from tests.audit.runs import EPOCH, bisected, edit_lines, epochs, resumed, verified
from tests.commands import dptrain
from tests.sessions import write_dataset

FOREIGN = "f" * 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def here(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "here"
    return epochs(data, out, 3, keep_checkpoints=True, record_digests=True)


@pytest.fixture
def elsewhere(here: Path, tmp_path: Path) -> Path:
    """The same run with the mark of another machine, and other last bits from step 4 on."""
    out = Path(shutil.copytree(here, tmp_path / "elsewhere"))
    edit_lines(out, foreign)
    edit_lines(out, other_bits)
    return out


def foreign(line: dict[str, Any]) -> None:
    if line["kind"] == "arithmetic":
        line["fingerprint"] = FOREIGN


def other_bits(line: dict[str, Any]) -> None:
    if line["kind"] == "step" and line["step"] >= 4:
        line["loss"] *= 1 + 1e-7


def stretches(out: Path) -> list[tuple[int, str]]:
    records = read_metrics(out / "metrics.jsonl")
    return [(r.step, r.fingerprint) for r in records if isinstance(r, ArithmeticRecord)]


def test_a_run_tells_how_it_was_computed(here: Path) -> None:
    (record,) = [r for r in read_metrics(here / "metrics.jsonl") if isinstance(r, ArithmeticRecord)]
    assert record.step == 0
    assert (record.numpy, record.cpu) == arithmetic()[1::2]
    assert len(record.fingerprint) == 16


def test_verify_cannot_tell(here: Path, elsewhere: Path) -> None:
    assert verified(here).same
    found = verified(elsewhere)
    assert (found.same, found.inconclusive) == (False, True)
    assert found.foreign is not None
    assert found.foreign.fingerprint == FOREIGN
    edit_lines(elsewhere, lambda line: line.update(fingerprint=stretches(here)[0][1]))
    found = verified(elsewhere)  # the same records, and no excuse
    assert (found.same, found.inconclusive) == (False, False)


def test_what_a_run_says_against_itself_differs_on_any_machine(elsewhere: Path) -> None:
    file = elsewhere / "checkpoints" / "epoch-0001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert not verified(elsewhere).inconclusive


def test_a_foreign_run_that_is_found_again_is_right(here: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(here, tmp_path / "out"))
    edit_lines(out, foreign)
    assert verified(out).same


def test_a_stretch_made_here_is_judged(data: Path, tmp_path: Path) -> None:
    out = epochs(data, tmp_path / "out", keep_checkpoints=True)
    edit_lines(out, foreign)
    with pytest.warns(RuntimeWarning, match="goes on with other arithmetic: the steps up to 14"):
        resumed(out, epochs=4, keep_checkpoints=True)
    assert stretches(out) == [(0, FOREIGN), (2 * EPOCH, stretches(out)[1][1])]
    assert stretches(out)[1][1] != FOREIGN
    assert verified(out).same
    edit_lines(out, other_bits)
    found = verified(out)
    assert not found.inconclusive
    assert found.first is not None
    assert found.first.step == 2 * EPOCH + 1, "not 4, of which nothing can be said"


def test_an_attempt_elsewhere_that_came_to_nothing_is_none(data: Path, tmp_path: Path) -> None:
    out = epochs(data, tmp_path / "out")
    record = (out / "metrics.jsonl").read_text().splitlines()[0]
    attempt = json.loads(record) | {"step": 2 * EPOCH, "fingerprint": FOREIGN}
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(attempt) + "\n")
    resumed(out, epochs=3)  # warnings are errors
    assert [step for step, _ in stretches(out)] == [0, 2 * EPOCH, 2 * EPOCH]
    assert verified(out).same
    edit_lines(out, other_bits)
    assert not verified(out).inconclusive


def test_bisect_accuses_no_foreign_run(here: Path, elsewhere: Path) -> None:
    found = bisected(here, elsewhere)
    assert (found.same, found.inconclusive, found.strays) == (False, True, ())
    ((stray, made),) = found.foreign
    assert (stray.run, stray.check.step, made.fingerprint) == (1, 4, FOREIGN)


def test_other_settings_are_a_finding_on_any_machine(
    data: Path, here: Path, tmp_path: Path
) -> None:
    out = epochs(data, tmp_path / "out", lr=0.05)
    edit_lines(out, foreign)
    found = bisected(here, out)
    assert found.finding is not None
    assert not found.inconclusive


@pytest.mark.parametrize("kernels", ["Prescott"])
def test_other_kernels_for_real(data: Path, tmp_path: Path, kernels: str) -> None:
    """Where this NumPy computes by OpenBLAS on x86-64; elsewhere nothing changes, and all is 0."""
    out = tmp_path / "run"
    job = ("--dataset", data, "--model", "mlp:20-7-3", "--batch-size", 20, "--epochs", 2)
    other = os.environ | {"OPENBLAS_CORETYPE": kernels}
    flags = ("--workers", 1, "--no-curves", "--log-every", 1)
    done = dptrain("train", *job, *flags, "--out", out, env=other)
    assert done.returncode == 0, done.stderr
    done = dptrain("verify", out)
    if done.returncode == 0:
        return
    assert done.returncode == 4, done.stdout
    assert "cannot tell whether the steps are right" in done.stdout
    done = dptrain("train", "--resume", out, "--epochs", 3, "--no-curves")
    assert done.returncode == 0, done.stderr
    assert "goes on with other arithmetic" in done.stderr
    for environment in (os.environ, other):
        assert dptrain("verify", out, env=environment).returncode == 4
        assert dptrain("bisect", out, out, env=environment).returncode == 0
