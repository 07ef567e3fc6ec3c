"""Worker processes for tests that do not ask how a worker is started."""

from collections.abc import Iterator

import pytest

from dptrain.launch.local import WORKER, Program
from dptrain.launch.nursery import nursery


@pytest.fixture(scope="module")
def workers() -> Iterator[Program]:
    """Workers for all tests of a file, forked as for a check."""
    with nursery(WORKER) as found:
        yield found
