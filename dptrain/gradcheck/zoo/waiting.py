"""How a patch holds a rank up: until others have come so far, never by a length of time."""

import time
from typing import Any

from dptrain.exchange.barrier import LINE_WORDS, Recalled
from dptrain.exchange.collective import Collective

PAUSE = 2e-4


def await_words(collective: Collective, value: int, ranks: tuple[int, ...]) -> None:
    """Wait until the words of these ranks have come to a value; `Recalled` where they cannot."""
    barrier: Any = collective._barrier
    while any(barrier._words[rank * LINE_WORDS] < value for rank in ranks):
        if barrier._recalled():
            raise Recalled
        time.sleep(PAUSE)
