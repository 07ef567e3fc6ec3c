"""What a fault of the checker's own comes to: no verdict about what is checked."""

import numpy as np
import pytest

from dptrain.gradcheck import ledger
from dptrain.gradcheck.calls import assert_gradients, check
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.calls import Call, call
from dptrain.nn.dense import Dense, DenseOperation
from dptrain.nn.layer import Blocks
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

    def doubled(self: DenseOperation, gradients: Blocks) -> tuple[list[Call], Blocks]:
        calls, below = right(self, gradients)
        return [*calls, *(call(np.multiply, db, 2.0, db) for db in self.bias_gradients)], below

    monkeypatch.setattr(DenseOperation, "backward_calls", doubled)
    report = check(network, DATA, exchange=("inline",), workers=(1,), check_seed=0)
    assert {Verdict.FAIL, Verdict.ERROR} <= {each.verdict for each in report.comparisons}
    assert report.verdict is Verdict.FAIL
