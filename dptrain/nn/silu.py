"""The sigmoid linear unit, also called swish."""

import numpy as np

from dptrain.nn.calls import Call, call
from dptrain.nn.gelu import GatedOperation
from dptrain.nn.layer import Activation, Array, Operation, Site


class SiLU(Activation, frozen=True, tag="silu"):
    """``y = x σ(x)``, with ``σ(x) = 1 / (1 + exp(-x))``; ``dx = dy · (σ(x) + x σ(x) (1 - σ(x)))``.

    Elfwing, Uchibe and Doya 2017, "Sigmoid-weighted linear units", equations 5 and 6; Ramachandran,
    Zoph and Le 2017, "Searching for activation functions", with β = 1. As `torch.nn.SiLU`.
    """

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return SiLUOperation(site)


class SiLUOperation(GatedOperation):
    """The tail is ``u / (1 + u)`` with ``u = exp(-a)``, which is 0 at the limit in either dtype."""

    limit = 1000

    def tail_calls(self, a: Array, tail: Array, q: Array) -> list[Call]:
        """``q = Q (1 - Q)``, which is ``Q / (1 + u)``."""
        number = a.dtype.type
        return [
            call(np.negative, a, tail),
            call(np.exp, tail, tail),
            call(np.add, tail, number(1), q),
            call(np.divide, tail, q, tail),
            call(np.divide, tail, q, q),
        ]
