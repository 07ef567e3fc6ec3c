"""The order of an epoch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dptrain.data.dataset import epoch_order


@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), rows=st.integers(0, 300))
def test_every_row_once(seed: int, epoch: int, rows: int) -> None:
    order = epoch_order(seed, epoch, rows)
    assert order.dtype == np.intp
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    np.testing.assert_array_equal(order, epoch_order(seed, epoch, rows))


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_the_order_never_changes() -> None:
    assert epoch_order(0, 0, 10).tolist() == [4, 6, 0, 5, 7, 1, 3, 8, 2, 9]
    assert epoch_order(1, 2, 10).tolist() == [2, 3, 4, 9, 1, 0, 6, 8, 5, 7]
