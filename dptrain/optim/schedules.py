"""Learning-rate schedules: each maps a step, counted from 0, to a learning rate.

Every schedule begins with ``warmup`` steps in which the rate rises linearly to its base; the rest
of the schedule counts its steps from the end of the warm-up.
"""

import math
from abc import abstractmethod
from typing import Annotated

from msgspec import Meta, Struct

Steps = Annotated[int, Meta(ge=0)]
Period = Annotated[int, Meta(ge=1)]
Factor = Annotated[float, Meta(gt=0, le=1)]


class Schedule(Struct, frozen=True, kw_only=True, tag_field="schedule", forbid_unknown_fields=True):
    """The base of all schedules.

    Attributes:
        lr: the base learning rate.
        warmup: steps of linear rise; step ``s`` of them has ``lr (s + 1) / (warmup + 1)``.
    """

    lr: Annotated[float, Meta(gt=0)]
    warmup: Steps = 0

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        return self.lr * self.factor(step - self.warmup)

    @abstractmethod
    def factor(self, step: int) -> float:
        """Return the rate divided by the base rate, ``step`` steps after the warm-up."""


class Constant(Schedule, frozen=True, kw_only=True, tag="constant"):
    """``lr``."""

    def factor(self, step: int) -> float:  # noqa: ARG002 - one signature for all schedules
        """Return 1."""
        return 1.0


class Step(Schedule, frozen=True, kw_only=True, tag="step"):
    """``lr · rate^⌊step / every⌋``."""

    rate: Factor
    every: Period

    def factor(self, step: int) -> float:
        """Return ``rate^⌊step / every⌋``."""
        return float(self.rate ** (step // self.every))


class Exponential(Schedule, frozen=True, kw_only=True, tag="exponential"):
    """``lr · rate^(step / every)``."""

    rate: Factor
    every: Period

    def factor(self, step: int) -> float:
        """Return ``rate^(step / every)``."""
        return float(self.rate ** (step / self.every))


class Cosine(Schedule, frozen=True, kw_only=True, tag="cosine"):
    """``lr · (1 + cos(π step / length)) / 2`` (Loshchilov and Hutter 2017, without restarts)."""

    length: Period

    def factor(self, step: int) -> float:
        """Return the half cosine."""
        return (1 + math.cos(math.pi * min(step, self.length) / self.length)) / 2


AnySchedule = Constant | Step | Exponential | Cosine
