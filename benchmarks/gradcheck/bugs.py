"""Deliberate bugs: a right gradient, and what becomes of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.gradcheck.problems import KINK, SHARD_ROWS, Problem

Array = NDArray[Any]

RELATIVE = tuple(10.0**-k for k in range(2, 13))
SMALL_LOSS = 1e-6
MANTISSA_BIT = 20


class Bug(NamedTuple):
    """A way to be wrong.

    Attributes:
        name: in the tables.
        spoil: returns the wrong gradient.
        factor: of the loss.
    """

    name: str
    spoil: Callable[[Problem, np.random.Generator], Array]
    factor: float = 1.0


def relative(error: float) -> Bug:
    """Return the bug of one element that is wrong by a relative error."""

    def spoil(problem: Problem, rng: np.random.Generator) -> Array:
        return _one(problem, rng, lambda g: g * (1 + error))

    return Bug(f"one entry, relative {error:.0e}", spoil)


def _one(problem: Problem, rng: np.random.Generator, change: Callable[[float], float]) -> Array:
    """Return the gradient with another value at a random element other than 0."""
    found = problem.right.copy()
    place = rng.choice(np.flatnonzero(found))
    found[place] = change(float(found[place]))
    return found


def _sign(problem: Problem, rng: np.random.Generator) -> Array:
    return _one(problem, rng, lambda g: -g)


def _bit(problem: Problem, rng: np.random.Generator) -> Array:
    return _one(problem, rng, _flipped)


def _flipped(g: float) -> float:
    bits = np.array(g).view(np.int64) ^ (1 << MANTISSA_BIT)
    return float(bits.view(np.float64))


def _swapped(problem: Problem, rng: np.random.Generator) -> Array:
    found = problem.right.copy()
    first = problem.tensors[0]
    a, b = rng.choice(np.flatnonzero(found[first.start : first.stop]), 2, replace=False)
    found[[a, b]] = found[[b, a]]
    return found


def _summed(problem: Problem, _: np.random.Generator) -> Array:
    return problem.right * sum(SHARD_ROWS)


def _transposed(problem: Problem, _: np.random.Generator) -> Array:
    found = problem.right.copy()
    first = problem.tensors[0]
    own = slice(first.start, first.stop)
    found[own] = found[own].reshape(first.shape).T.reshape(-1)
    return found


def _opposite(problem: Problem, _: np.random.Generator) -> Array:
    return -problem.right


def _cancelling(problem: Problem, _: np.random.Generator) -> Array:
    """Add 1 % of the tensor's root mean square to every other element and take it from the rest."""
    found = problem.right.copy()
    first = problem.tensors[0]
    own = found[first.start : first.stop]
    own += np.resize([1.0, -1.0], len(own)) * 0.01 * np.sqrt(np.mean(own**2))
    return found


def _float32(problem: Problem, _: np.random.Generator) -> Array:
    return problem.right.astype(np.float32).astype(float)


BUGS = (
    Bug("all entries N times as large", _summed),
    Bug("a transposed block", _transposed),
    Bug("a pair of entries swapped", _swapped),
    Bug("the sign of one entry", _sign),
    Bug("all signs, loss times 1e-6", _opposite, SMALL_LOSS),
    Bug("±1 % in turn: cancels along positive directions", _cancelling),
    Bug("rounded to float32", _float32),
    Bug(f"mantissa bit {MANTISSA_BIT} of one entry", _bit),
    *map(relative, RELATIVE),
)


def beyond_the_kink(problem: Problem) -> Array:
    """Return the gradient with a bias that lies outside of the slopes of both sides of its kink."""
    step = 1e-7
    moved = problem.x.copy()
    moved[KINK] += step
    other = problem.reference.gradient(moved, 2.0**-53).total[KINK]
    found = problem.right.copy()
    found[KINK] += 3 * (other - found[KINK])
    return found
