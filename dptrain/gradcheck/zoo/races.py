"""Bugs in when something is read or written; every patch makes the order that shows it certain."""

from typing import Any

from dptrain.exchange import buckets
from dptrain.exchange.collective import Collective
from dptrain.exchange.lockstep import LockstepRank
from dptrain.exchange.rank import Rank, Share
from dptrain.exchange.slices import SliceUpdate, Sum
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import WORLD, Around, here, note_rank, wrap
from dptrain.gradcheck.zoo.waiting import await_words
from dptrain.protocol.lockstep import ARRIVALS
from dptrain.worker.gradients import StarRank

BOTH = ("shared", "star")
SMALL_BUCKET = 64  # bytes: then also a small network travels in several buckets


def small_buckets(patches: Patches) -> None:
    """Have every layer travel in a bucket of its own; that alone changes no bit."""
    patches.replace(buckets, "BUCKET_BYTES", lambda _: SMALL_BUCKET)


def _reads_too_early(patches: Patches) -> None:
    """Rank 2 begins a step when rank 0 has completed it without it."""
    note_rank(patches)

    def wait(original: Around, self: Collective) -> None:
        if here.rank == 0 and self._value % ARRIVALS:
            await_words(self, self._value, (1,))
        else:
            original(self)

    def step(original: Around, self: LockstepRank, number: int) -> None:
        if here.rank == WORLD - 1:
            await_words(self._collective, (number + 1) * ARRIVALS, (0,))
        original(self, number)

    wrap(patches, Collective, "wait", wait)
    wrap(patches, LockstepRank, "_step", step)


def _prefetched_too_early(patches: Patches) -> None:
    def forward(original: Around, self: Rank, found: Any) -> Any:
        share = self._gathered[0] if self._gathered is not None else Share(0, 0, 0)
        losses = original(self, found)
        later = share._replace(step=share.step + 1)
        if later.step < self.job.total_steps and self.job.rows(later.step) == found.rows:
            self.gather(later)
        return losses

    wrap(patches, Rank, "forward", forward)


def _send_buffer_reused(patches: Patches) -> None:
    """All buckets leave from one buffer, and only when the last has been written to it."""
    small_buckets(patches)

    def send(original: Around, self: StarRank, number: int, *what: Any) -> None:
        if number == self.buckets - 1:
            found = what[1]
            honest = found.gradients.copy()
            low, high = self._buckets[number][1:]
            for each, (_, start, stop) in enumerate(self._buckets):
                size = min(high - low, stop - start)
                for root in found.roots:
                    found.gradients[root, start : start + size] = honest[root, low : low + size]
                original(self, each, *what)

    wrap(patches, StarRank, "send", send)


def _output_aliases_input(patches: Patches) -> None:
    """The first sum is written over what is to be added next."""

    def init(original: Around, self: SliceUpdate, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        for sums, _ in self._chunks:
            if len(sums) > 1:
                first, second = sums[:2]
                sums[:2] = [
                    Sum(first.into, first.other, second.other),
                    Sum(second.other, second.other, second.out),
                ]

    wrap(patches, SliceUpdate, "__init__", init)


BUGS = (
    Bug(
        "read-before-arrived",
        "race",
        "Rank 0 reduces when all but the last rank have arrived, and that is late: what it reads "
        "is of the step before.",
        _reads_too_early,
    ),
    Bug(
        "prefetched-too-early",
        "race",
        "The rows of the next step are read into the buffers that the backward pass still needs.",
        _prefetched_too_early,
        exchange=BOTH,
    ),
    Bug(
        "send-buffer-reused",
        "race",
        "All buckets are sent from one buffer, which is written again before it has been sent.",
        _send_buffer_reused,
        place="all",
        exchange=("star",),
    ),
    Bug(
        "output-aliases-input",
        "race",
        "The sum of two ranks is written over what the third has handed in.",
        _output_aliases_input,
    ),
)
