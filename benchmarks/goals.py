"""What dptrain is to reach, as ratios between medians of one run."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from benchmarks.programs import (
    BLAS,
    DDP,
    INLINE,
    LIBRARIES,
    MPI,
    SHARED,
    SHARED_4_SHARDS,
    SHARED_8_SHARDS,
    SHARED_8_WORKERS,
    TORCH_2,
)

Medians = Mapping[str, Mapping[str, float]]  # seconds, by job and by program


class Reference(NamedTuple):
    """What a program is held against: the fastest of some programs."""

    name: str
    programs: tuple[str, ...]

    def seconds(self, medians: Mapping[str, float]) -> float | None:
        """Return the smallest median; None where none of the programs was measured."""
        return min((medians[each] for each in self.programs if each in medians), default=None)


OWN_INLINE = Reference("own inline, 1 shard", (INLINE,))
TO_DDP = Reference("DDP", (DDP,))
BEST_LIBRARY = Reference("best of PyTorch and scikit-learn in 1 process", LIBRARIES)
TWO_THREADS = Reference("PyTorch, 2 threads", (TORCH_2,))
NUMPY_MPI = Reference("NumPy with MPI", (MPI,))
BLAS_ALONE = Reference("BLAS alone", (BLAS,))
REFERENCES = (OWN_INLINE, TO_DDP, BEST_LIBRARY, NUMPY_MPI, BLAS_ALONE)


class Goal(NamedTuple):
    """A bound for the speed or the time of a program, in multiples of its reference's."""

    job: str
    program: str
    quantity: Literal["speed", "time"]
    reference: Reference
    bound: float

    def __str__(self) -> str:
        least = "at least" if self.quantity == "speed" else "at most"
        return f"{least} {self.bound:g} times the {self.quantity} of {self.reference.name}"

    def found(self, medians: Medians) -> float | None:
        """Return the multiple; None where either side was not measured."""
        job = medians.get(self.job, {})
        own, other = job.get(self.program), self.reference.seconds(job)
        if own is None or other is None:
            return None
        return other / own if self.quantity == "speed" else own / other

    def met(self, found: float) -> bool:
        """Return whether a multiple reaches the goal."""
        return found >= self.bound if self.quantity == "speed" else found <= self.bound


# The least speed of SHARED, by reference and job
_LEAST = (
    (OWN_INLINE, {"small": 1.4, "three-layer": 1.3, "large": 1.8, "large-128": 1.5}),
    (
        TO_DDP,
        {"small": 8, "three-layer": 8, "large": 1.7, "large-128": 2.5, "batch-norm": 5, "conv": 2},
    ),
    (
        BEST_LIBRARY,
        {"small": 1.9, "three-layer": 1.9, "large": 1.3, "large-128": 1.4, "batch-norm": 1.3},
    ),
    (TWO_THREADS, {"conv": 1.5}),
    (NUMPY_MPI, {"small": 1.0, "three-layer": 1.0, "large": 1.08, "large-128": 1.1}),
)
_TWO_SHARDS = Reference("the same, 2 shards", (SHARED,))
_TWO_WORKERS = Reference("the same, 2 workers", (SHARED_8_SHARDS,))

GOALS = (
    *(
        Goal(job, SHARED, "speed", reference, bound)
        for reference, bounds in _LEAST
        for job, bound in bounds.items()
    ),
    Goal("large", SHARED, "time", BLAS_ALONE, 1.2),
    Goal("small", SHARED_4_SHARDS, "time", _TWO_SHARDS, 1.2),
    Goal("large", SHARED_4_SHARDS, "time", _TWO_SHARDS, 1.06),
    Goal("large", SHARED_8_WORKERS, "speed", _TWO_WORKERS, 0.8),
)
