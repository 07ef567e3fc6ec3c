"""Who is in: connections that said hello, proved that they hold the key, and were given a rank."""

from dataclasses import dataclass
from typing import Any

from dptrain.errors import WorkersLostError
from dptrain.protocol.events import End, Heard, Instruction, Send
from dptrain.protocol.handshake import proof, proves
from dptrain.protocol.messages import VERSION, Answer, Challenge, Hello, Refused, Welcome


@dataclass(frozen=True)
class Terms:
    """What the coordinator decides before anybody joins.

    Attributes:
        world_size: number of ranks.
        launched: how many of them, the first ones, are processes that the coordinator started.
        key: that every worker must hold.
        job: the settled experiment as plain data.
        data: where the prepared data set lies.
        parameters: length of the flat vector.
        buckets: in how many messages a gradient comes.
        tables: how many the ranks fill together in a step.
        shards: of a minibatch.
        exchange: ``star`` or ``shared``.
        first_step: how many steps are done already.
        fingerprint: of the coordinator's arithmetic.
        timeout: seconds for which every rank may be silent.
        expected: seconds that the first step or piece of an evaluation may take.
        logs: where each launched rank writes, for messages.
    """

    world_size: int
    launched: int
    key: bytes
    job: dict[str, Any]
    data: str
    parameters: int
    buckets: int
    tables: int
    shards: int
    exchange: str
    first_step: int
    fingerprint: str
    timeout: float
    expected: float
    logs: tuple[str, ...]


@dataclass
class Peer:
    """A connection that has said hello; it is a member once it has a rank."""

    hello: Hello
    nonce: bytes
    rank: int | None = None


class Admission:
    """Answers the two messages of a worker that wants to join.

    Attributes:
        members: the connection of each rank that has been admitted.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.members: dict[int, bytes] = {}
        self._peers: dict[bytes, Peer] = {}

    def rank_of(self, peer: bytes) -> int | None:
        """Return the rank of a connection, or None for a stranger."""
        found = self._peers.get(peer)
        return None if found is None else found.rank

    def hello(self, event: Heard[Hello], message: Hello) -> list[Instruction]:
        """Challenge a newcomer."""
        if event.peer in self._peers:
            return []
        if message.version != VERSION:
            return refuse(
                event.peer,
                f"it speaks version {message.version} of the protocol, the coordinator version "
                f"{VERSION}; install the same dptrain on both sides",
            )
        self._peers[event.peer] = Peer(message, event.nonce)
        return [Send(event.peer, Challenge(event.nonce))]

    def answer(self, event: Heard[Answer], message: Answer) -> list[Instruction]:
        """Admit a newcomer whose proof and arithmetic are right and for whom there is a rank."""
        peer = self._peers.get(event.peer)
        if peer is None or peer.rank is not None:
            return []
        nonces = (peer.hello.nonce, peer.nonce)
        if not proves(message.proof, proof(self.terms.key, "worker", *nonces)):
            return self._turn_away(event.peer, "it does not hold the key of this run")
        if message.fingerprint != self.terms.fingerprint:
            return self._different_arithmetic(event.peer, peer.hello, message.fingerprint)
        rank = self._free_rank(peer.hello.rank)
        if rank is None:
            return self._turn_away(event.peer, "every rank of this run is taken")
        peer.rank = rank
        self.members[rank] = event.peer
        welcome = Welcome(
            proof(self.terms.key, "coordinator", *nonces),
            rank,
            self.terms.world_size,
            self.terms.job,
            self.terms.data,
            self.terms.exchange,
            self.terms.first_step,
        )
        return [Send(event.peer, welcome)]

    def _turn_away(self, name: bytes, reason: str) -> list[Instruction]:
        del self._peers[name]
        return refuse(name, reason)

    def _different_arithmetic(self, name: bytes, hello: Hello, theirs: str) -> list[Instruction]:
        reason = (
            f"its arithmetic differs (fingerprint {theirs}, the coordinator's "
            f"{self.terms.fingerprint}): another kind of CPU, another NumPy or BLAS, or more than "
            "one BLAS thread; its results would not have the same bits"
        )
        refused = self._turn_away(name, reason)
        if hello.rank < 0:
            return refused
        return [*refused, End(WorkersLostError(f"rank {hello.rank} is refused: {reason}"))]

    def _free_rank(self, wanted: int) -> int | None:
        if wanted >= 0:
            free = wanted < self.terms.launched and wanted not in self.members
            return wanted if free else None
        by_hand = range(self.terms.launched, self.terms.world_size)
        return next((rank for rank in by_hand if rank not in self.members), None)


def refuse(peer: bytes, reason: str) -> list[Instruction]:
    """Return the instruction to turn a connection away."""
    return [Send(peer, Refused(reason))]
