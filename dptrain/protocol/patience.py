"""How long one side of a conversation may be silent before the other gives it up.

Silence counts by the clock of whoever listens, and only while somebody does: whoever is stopped, or
is busy with other things for long, looks at the clock late, and cannot tell silence from words that
are still to be read. And how much of it is too much depends on the work: what has taken 20 seconds
once may take longer the next time, and is no sign of death.
"""

from collections.abc import Hashable, Iterable

# Both sides look at their clocks about once a second. Of a longer gap no more than this counts.
LONGEST_GAP = 1.5
# A rank may be silent this many times as long as the longest piece of the same kind of work took.
MULTIPLE = 10.0
# Seconds that a worker may take to start and join: it imports much, and others may, too.
STARTING = 30.0


class Silence:
    """For how many seconds nothing has been heard of each of some parties.

    Attributes:
        clock: seconds of listening so far.
    """

    def __init__(self, parties: int, now: float) -> None:
        self.clock = 0.0
        self._now = now
        self._heard = [0.0] * parties

    def listen(self, now: float) -> None:
        """Note that it is ``now``, in seconds of any clock that only moves forward."""
        self.clock += min(now - self._now, LONGEST_GAP)
        self._now = now

    def heard(self, party: int, now: float) -> float:
        """Note a sign of life; return the seconds of silence that it ends."""
        self.listen(now)
        ended, self._heard[party] = self.of(party), self.clock
        return ended

    def of(self, party: int) -> float:
        """Return for how many seconds a party has been silent."""
        return self.clock - self._heard[party]


class Patience:
    """The coordinator's, with its ranks.

    Attributes:
        longest: seconds that the longest piece of the work under way took; of steps and pieces of
            evaluations that nobody has carried out yet, what they are expected to take.
    """

    def __init__(self, timeout: float, expected: float, ranks: int, now: float) -> None:
        """Begin to listen to ranks that join.

        Args:
            timeout: seconds of silence that are allowed whatever the work.
            expected: seconds that the first piece of any work may take.
            ranks: how many there are.
            now: the time.
        """
        self.longest = 0.0
        self._timeout = timeout
        self._expected = expected
        self._ranks = range(ranks)
        self._silence = Silence(ranks, now)
        self._took: dict[Hashable, float] = {}
        self._least = STARTING
        self._work: Hashable = None
        self._since = 0.0

    @property
    def allowed(self) -> float:
        """Seconds for which a rank may be silent at the work under way."""
        return max(self._timeout, self._least, MULTIPLE * self.longest)

    def begin(self, work: Hashable, now: float) -> None:
        """Note that all ranks begin a kind of work."""
        for rank in self._ranks:
            self._silence.heard(rank, now)
        self._least = 0.0
        self._work, self._since = work, self._silence.clock
        self.longest = self._took.get(work, self._expected)

    def heard(self, rank: int, now: float) -> float:
        """Note a sign of life of a rank; return the seconds of silence that it ends."""
        return self._silence.heard(rank, now)

    def took(self, seconds: float) -> None:
        """Note how long a piece of the work under way took."""
        self.longest = max(self.longest, seconds)
        self._took[self._work] = self.longest

    def together(self, pieces: int) -> None:
        """Note that all ranks have done pieces of the work, one after the other, since the last."""
        since, self._since = self._since, self._silence.clock
        self.took((self._since - since) / pieces)

    def lost(self, ranks: Iterable[int], now: float) -> int | None:
        """Return the first of some ranks that is to be given up ``now``, if any.

        None by a look that comes late: what they have said since is still to be read.
        """
        before = self._silence.clock
        self._silence.listen(now)
        if self._silence.clock - before >= LONGEST_GAP:
            return None
        return next((rank for rank in ranks if self._silence.of(rank) > self.allowed), None)
