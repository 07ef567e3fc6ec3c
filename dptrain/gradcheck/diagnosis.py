"""What a failed comparison is put down to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """A kind of bug that would explain what was found.

    Attributes:
        kind: such as ``"mean-of-means"``.
        sentence: for the user, naming rank, shard or tensor.
        residual: what it leaves unexplained, relatively; 0 is all explained, 1 nothing.
    """

    kind: str
    sentence: str
    residual: float
