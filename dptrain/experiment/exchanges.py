"""The exchanges by name, and what each needs of an execution. Imports no mathematics."""

from typing import Literal, NamedTuple, get_args

WithWorkersName = Literal["star", "shared"]
ExchangeName = Literal["inline", WithWorkersName]


class Exchange(NamedTuple):
    """How gradients and weights travel.

    What an exchange does stands in tables by its name: the engine in `dptrain.coordinator.engines`,
    the rank's side in `dptrain.worker.shell`.

    Attributes:
        name: as users give it.
        workers: whether worker processes compute; otherwise the coordinator does.
        sockets: whether arrays travel over ZeroMQ, so that workers may join over a network.
        memory: whether the ranks share memory, in which they wait for each other.
        lockstep: whether the ranks carry out a plan of many steps among themselves, each finishing
            and updating a slice of its own; otherwise the coordinator does that, step by step.
    """

    name: ExchangeName
    workers: bool
    sockets: bool = False
    memory: bool = False
    lockstep: bool = False


INLINE = Exchange("inline", workers=False)
STAR = Exchange("star", workers=True, sockets=True)
SHARED = Exchange("shared", workers=True, memory=True, lockstep=True)
EXCHANGES: dict[str, Exchange] = {each.name: each for each in (INLINE, STAR, SHARED)}
assert tuple(EXCHANGES) == get_args(ExchangeName)
assert tuple(n for n, each in EXCHANGES.items() if each.workers) == get_args(WithWorkersName)
