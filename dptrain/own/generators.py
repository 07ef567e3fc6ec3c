"""Generators of random numbers that a network of the user's own uses, seeded for every call.

As NumPy's global generator is: what is drawn then depends on the experiment's seed, the step and
the shard, and neither on who computes it nor on how often something was drawn before.
"""

import builtins
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dptrain.machine.process_wide import Turns
from dptrain.own.places import GENERATORS, holders, walk

# There is one global generator, and a network in each of several threads may be drawing from it.
DRAWING = Turns()


class Generators:
    """Those of one network: its attributes, those of its classes, and names in their modules."""

    def __init__(self, subject: object) -> None:
        """Look for them in the network and its layers, in their classes and in these's modules."""
        classes = {kind: None for _, each in holders(subject) for kind in type(each).__mro__}
        values: list[Any] = [value for _, value in walk(subject)]
        for each in classes:
            values += vars(each).values()
            if not each.__module__.startswith(("builtins", "collections", "numpy", "random")):
                values += vars(sys.modules.get(each.__module__, builtins)).values()
        found: dict[int, Any] = {id(e): e for e in values if isinstance(e, GENERATORS)}
        if any(each is random for each in values):
            found[id(random)] = random  # Python's global generator
        self._all: list[Any] = list(found.values())

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed all of them, each differently; afterwards they are as they were."""
        before = [_state(each) for each in self._all]
        try:
            for i, each in enumerate(self._all):
                if isinstance(each, np.random.Generator):
                    bits = type(each.bit_generator)(np.random.SeedSequence((seed, i)))
                    each.bit_generator.state = bits.state
                else:
                    each.seed((seed + i) % 2**32)
            yield
        finally:
            for each, state in zip(self._all, before, strict=True):
                _put(each, state)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state()
    return generator.getstate()


def _put(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)
