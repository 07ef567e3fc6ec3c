"""What a fault of the checker's own comes to: no verdict about what is checked."""

import numpy as np
import pytest

from dptrain.gradcheck import ledger
from dptrain.gradcheck.calls import assert_gradients, check
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.dense import Dense, DenseOperation
from dptrain.nn.network import Network

ROWS = np.random.default_rng(0).standard_normal((30, 4))
DATA = (ROWS, (ROWS[:, 0] > 0).astype(int))


@pytest.fixture
def network() -> Network:
    return Network(4, [Dense(2)])


def test_a_fault_of_the_checker_is_no_fail(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "EPOCHS", "many")
    report = check(network, DATA, exchange=("inline",), workers=(1,), check_seed=0)
    assert report.verdict is Verdict.ERROR
    assert report.verdict.exit_code == 1
    assert not report.blamed
    (broke,) = report.failures
    assert broke.comparison.note.startswith("TypeError in ")
    assert broke.comparison.note.endswith("a fault of dptrain's checker, not of what is checked")
    with pytest.raises(AssertionError, match="gradients: error"):
        assert_gradients(network, DATA, exchange=("inline",), workers=(1,), check_seed=0)


def test_a_difference_says_more_than_a_fault(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "EPOCHS", "many")
    right = DenseOperation.backward_calls

    def half(self: DenseOperation, *args: object) -> object:
        return right(self, *args)[:-1]  # type: ignore[arg-type]

    monkeypatch.setattr(DenseOperation, "backward_calls", half)
    report = check(network, DATA, exchange=("inline",), workers=(1,), check_seed=0)
    assert report.verdict is Verdict.FAIL
