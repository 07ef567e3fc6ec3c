"""What belongs to the whole process, with several runs of it at a time in threads."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import dptrain
from dptrain.machine.blas import one_blas_thread
from tests.own.nets import Dropout, Net

X = np.random.default_rng(1).standard_normal((60, 4))
LABELS = (X.sum(axis=1) > 0).astype(np.int64)


class DrawsInPieces(Dropout):
    """Lets other threads go on between its pieces."""

    def forward(self, x: Any) -> Any:
        pieces = []
        for row in x:
            pieces.append(np.random.rand(len(row)) > 0.3)
            time.sleep(0)
        self.mask = np.array(pieces)
        return x * self.mask


def blas_threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Have two BLAS threads to begin with: the tests themselves run with one."""
    with threadpool_limits(limits=2, user_api="blas"):
        assert blas_threads() == {2}
        yield


def test_the_last_that_ends_gives_the_threads_back(two_threads: None) -> None:
    first, second, third = ExitStack(), ExitStack(), ExitStack()
    first.enter_context(one_blas_thread())
    second.enter_context(one_blas_thread())
    first.close()
    assert blas_threads() == {1}
    third.enter_context(one_blas_thread())
    second.close()
    assert blas_threads() == {1}
    third.close()
    assert blas_threads() == {2}


def test_an_error_gives_the_threads_back(two_threads: None) -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert blas_threads() == {2}


def fit(out: Path, network: Any, **settings: Any) -> dptrain.Result:
    wanted = {"workers": 1, "progress": False, "batch_size": 20, "steps": 60} | settings
    return dptrain.fit(network, (X, LABELS), out=out, **wanted)


def test_a_fit_computes_in_one_thread_after_another_beside_it_has_ended(
    two_threads: None, tmp_path: Path
) -> None:
    began, ended = threading.Event(), threading.Event()
    found: list[set[int]] = []

    def beside(*_: object) -> None:
        began.set()
        assert ended.wait(60)
        found.append(blas_threads())

    with ThreadPoolExecutor() as pool:
        network = dptrain.Network((4,), [dptrain.Dense(2)])

        def long() -> None:
            fit(tmp_path / "long", network, on_epoch=beside)

        def short() -> None:
            fit(tmp_path / "short", network, on_epoch=lambda *_: began.wait(60))

        runs = pool.submit(short), pool.submit(long)
        runs[0].result()
        ended.set()
        runs[1].result()
    assert found
    assert set.union(*found) == {1}
    assert blas_threads() == {2}


def test_networks_that_draw_do_so_as_if_they_were_alone(tmp_path: Path) -> None:
    """NumPy's global generator is one for all threads."""

    def networks() -> list[Net]:
        np.random.seed(5)
        found = [Net(4, 7, 2, drop=True) for _ in range(3)]
        for each in found:
            each.layers["Dropout"] = DrawsInPieces()
        return found

    def digest(where: str, number: int, network: Net) -> str:
        return fit(tmp_path / f"{where}-{number}", network, seed=number).digest

    alone = [digest("alone", *each) for each in enumerate(networks())]
    beside = networks()
    before = np.random.get_state(legacy=False)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(digest, ["beside"] * 3, range(3), beside))
    assert found == alone
    after = np.random.get_state(legacy=False)
    assert str(after) == str(before), "the caller's generator is as it was"
