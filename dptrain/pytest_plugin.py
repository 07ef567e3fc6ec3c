"""A fixture that checks gradients: ``def test_mine(gradcheck): gradcheck(network, data)``."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def gradcheck() -> Callable[..., Any]:
    """Return `dptrain.gradcheck.assert_gradients`: it fails the test where a gradient is wrong.

    The numbers that the check draws come from a fixed seed, so that a test is repeatable; give
    ``check_seed`` for another.
    """
    from dptrain.gradcheck.calls import (
        assert_gradients,
    )  # here, since most tests check no gradients

    def checked(network: object, data: Any, **settings: Any) -> Any:
        return assert_gradients(network, data, **{"check_seed": 0} | settings)

    return checked
