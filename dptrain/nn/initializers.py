"""Initial weights. Biases start at zero."""

import math
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from dptrain.errors import UsageError, suggestion


class Normal(Struct, frozen=True, tag="normal", tag_field="init", forbid_unknown_fields=True):
    """Draws from N(0, std²)."""

    std: Annotated[float, Meta(ge=0)] = 0.01

    def __post_init__(self) -> None:
        """Refuse a standard deviation that cannot be one."""
        if not (self.std >= 0 and math.isfinite(self.std)):
            raise UsageError(f"init_std={self.std!r} is not a standard deviation; give 0 or more")

    def scale(self, fan_in: int, fan_out: int) -> float:  # noqa: ARG002 - one signature for all
        """Return the standard deviation, whatever the fans."""
        return self.std


class Xavier(Struct, frozen=True, tag="xavier", tag_field="init", forbid_unknown_fields=True):
    """Draws from N(0, 2 / (fan_in + fan_out)): Glorot and Bengio 2010, equation 12.

    "Deep Learning from Scratch" shortens this to N(0, 1 / fan_in).
    """

    def scale(self, fan_in: int, fan_out: int) -> float:
        """Return the standard deviation for a weight of these fans."""
        return math.sqrt(2.0 / (fan_in + fan_out))


class He(Struct, frozen=True, tag="he", tag_field="init", forbid_unknown_fields=True):
    """Draws from N(0, 2 / fan_in): He et al. 2015, equation 10."""

    def scale(self, fan_in: int, fan_out: int) -> float:  # noqa: ARG002 - one signature for all
        """Return the standard deviation for a weight of this fan-in."""
        return math.sqrt(2.0 / fan_in)


class Zeros(Struct, frozen=True, tag="zeros", tag_field="init", forbid_unknown_fields=True):
    """Starts at zero."""

    def scale(self, fan_in: int, fan_out: int) -> float:  # noqa: ARG002 - one signature for all
        """Return 0."""
        return 0.0


class Ones(Struct, frozen=True, tag="ones", tag_field="init", forbid_unknown_fields=True):
    """Starts at one."""

    def scale(self, fan_in: int, fan_out: int) -> float:  # noqa: ARG002 - one signature for all
        """Return 0: nothing is drawn."""
        return 0.0


Initializer = Normal | Xavier | He | Zeros | Ones
InitName = Literal["normal", "xavier", "glorot", "he", "zeros"]
_BY_NAME: dict[str, type[Initializer]] = {
    "normal": Normal,
    "xavier": Xavier,
    "glorot": Xavier,
    "he": He,
    "zeros": Zeros,
}


def initializer(init: str | Initializer, std: float | None = None) -> Initializer:
    """Return the initializer of a name (``std`` is for ``normal``), or ``init`` itself.

    A name may end in ``_normal``, as in other libraries: ``he_normal`` is ``he``.

    Raises:
        UsageError: the name is unknown.
    """
    if not isinstance(init, str):
        return init
    name = init.removesuffix("_normal")
    if name not in _BY_NAME:
        near = suggestion(init, _BY_NAME) or ";"
        raise UsageError(f"unknown init {init!r}{near} known are: {', '.join(_BY_NAME)}")
    if name == "normal" and std is not None:
        return Normal(std)
    return _BY_NAME[name]()


def draw(
    init: Initializer, shape: tuple[int, ...], fans: tuple[int, int], random: np.random.Generator
) -> NDArray[np.float64]:
    """Return initial values of ``shape``, in float64, for ``fans = (fan_in, fan_out)``."""
    if isinstance(init, Ones):
        return np.ones(shape)
    return random.standard_normal(shape) * init.scale(*fans)
