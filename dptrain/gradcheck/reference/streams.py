"""The random numbers of a key: NumPy's Philox alone, so that nothing under test draws them.

The key of Philox comes from SeedSequence, with the experiment's seed and a spawn key: what the
numbers are for, and what tells them apart (an epoch, a layer's place, a shard). Numbers of a step
begin where one word of Philox's counter is the step; it is the last of the four.
"""

from typing import Any

import numpy as np

SHUFFLE, SPLIT, DROPOUT, AUGMENTATION = 1, 2, 4, 5
LAST_WORD = 3


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random numbers of a key."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def stream_at(seed: int, step: int, *key: int, word: int = LAST_WORD) -> np.random.Generator:
    """Return the random numbers of a key and step, which stands in a word of the counter."""
    found = stream(seed, *key)
    philox: Any = found.bit_generator
    state, counter = philox.state, np.zeros(LAST_WORD + 1, np.uint64)
    counter[word] = step
    state["state"]["counter"] = counter
    philox.state = state
    return found
