"""Where a worker was lost is told as it was, not as it was heard of last."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.commands import dptrain, result
from tests.exchange.build import WITH_WORKERS
from tests.sessions import write_dataset

# Two shards a rank, and one call for each of them: the 61st is in step 31.
NETWORK = """
import os, sys
import numpy as np

calls = []

class Ends:
    def __init__(self):
        self.params = {"W": np.full((20, 3), 0.1, np.float32)}


    def loss(self, x, t):
        y = x.reshape(len(x), -1) @ self.params["W"]
        return float(np.mean((y - t) ** 2))

    def gradient(self, x, t):
        calls.append(None)
        if len(calls) == 61 and "dptrain.worker" in sys.orig_argv:
            END
        x = x.reshape(len(x), -1)
        y = x @ self.params["W"]
        return {"W": x.T @ (2 * (y - t) / y.size)}
"""


@pytest.mark.parametrize("exchange", WITH_WORKERS)
@pytest.mark.parametrize(
    ("end", "words"),
    [("os._exit(3)", "ended with exit code 3 in step 31"), ("os.kill(os.getpid(), 9)", "SIGKILL")],
)
def test_the_step_in_which_it_was_lost(end: str, words: str, exchange: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK.replace("END", end))
    job = ("--dataset", write_dataset(tmp_path / "small.npz"), "--batch-size", 20, "--epochs", 90)
    ways = ("--exchange", exchange, "--out", tmp_path / "run")
    done = dptrain("train", "--model", f"{tmp_path / 'net.py'}:Ends", *job, *ways)
    assert done.returncode == 6, done.stderr
    assert words in done.stderr
    assert "in step 31; see " in done.stderr
    assert "step 30 is saved" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 6), (signal.SIGSEGV, 3)])
def test_a_worker_that_is_killed_says_nothing_about_gradients(
    number: int, code: int, tmp_path: Path
) -> None:
    """As where memory is short; one that crashes of itself is a run that does not go on."""
    end = f'"dptrain.worker.startup" in sys.modules:\n            os.kill(os.getpid(), {number})'
    before, after = NETWORK.split('len(calls) == 61 and "dptrain.worker" in sys.orig_argv:')
    (tmp_path / "net.py").write_text(before + end + after.replace("            END\n", ""))
    subject = (f"{tmp_path / 'net.py'}:Ends", "--dataset", write_dataset(tmp_path / "small.npz"))
    done = dptrain("gradcheck", *subject, "--workers", 2, "--exchange", "shared", "--fail-fast")
    assert done.returncode == code, done.stderr
    said = done.stderr if code == 6 else done.stdout
    assert re.search(rf"rank [01] \(pid \d+\) was killed by {signal.Signals(number).name}", said)
    assert ("nothing about the gradients; check again" in said) == (code == 6)
    assert "rank-0.log" not in said


@pytest.mark.parametrize(
    ("workers", "end", "words"),
    [
        (1, "raise ValueError('late')", "ValueError: late"),
        (2, "raise ValueError('late')", "ValueError: late"),
        (1, "sys.exit(3)", "raised SystemExit: 3"),
        (2, "sys.exit(3)", "raised SystemExit: 3"),
    ],
)
def test_code_that_raises_keeps_the_steps_that_are_done(
    workers: int, end: str, words: str, tmp_path: Path
) -> None:
    raising = NETWORK.replace('len(calls) == 61 and "dptrain.worker" in sys.orig_argv', "FAILS")
    net, run = tmp_path / "net.py", tmp_path / "run"
    fails = 'len(calls) > 300 and os.environ.get("FAILS")'
    net.write_text(raising.replace("FAILS", fails).replace("END", end))
    job = ("--dataset", write_dataset(tmp_path / "small.npz"), "--batch-size", 20, "--steps", 200)
    code, ways = ("--model", f"{net}:Ends"), ("--workers", workers, "--no-curves")
    late = dptrain("train", *code, *job, *ways, "--out", run, env=os.environ | {"FAILS": "1"})
    assert late.returncode == 1
    assert words in late.stderr
    (saved,) = re.findall(r"step (\d+) is saved; continue with: .*--resume", late.stderr)
    assert int(saved) % 7  # not the end of an epoch, where checkpoints are written anyway
    whole = result("train", *code, *job, *ways, "--out", tmp_path / "whole")
    again = result("train", "--resume", run, *code, *ways)
    assert again["digest"] == whole["digest"]
