"""Bugs in when something is read or written; whatever shows them is made certain by waiting."""

import time
from typing import Any

from dptrain.exchange.barrier import LINE_WORDS, Recalled
from dptrain.exchange.collective import Collective
from dptrain.gradcheck.zoo.bug import SHARED, STAR, Bug
from dptrain.gradcheck.zoo.source import Source
from dptrain.gradcheck.zoo.wire import SMALL_BUCKETS

PAUSE = 2e-4


def await_words(collective: Collective, value: int, rank: int) -> None:
    """Wait until a rank has come to a value, never for a length of time.

    Raises:
        Recalled: it cannot come there any more.
    """
    barrier: Any = collective._barrier
    while barrier._words[rank * LINE_WORDS] < value:
        if barrier._recalled():
            raise Recalled
        time.sleep(PAUSE)


_AWAIT = "from dptrain.gradcheck.zoo.races import await_words\n"
_WAIT, _BEGIN = "self._barrier.wait(self._value)", "self._value = step * ARRIVALS"
_FRAMES = "frames = [found.gradients[root, start:stop].data for root in found.roots]"
_FORWARD = "self._gathered = None\nreturn found.summed_losses(found.forward())"

BUGS = (
    Bug("stale-weights-shared", "stale-weights",
        "Rank 1 computes with the weights of the step before.",
        Source("exchange/rank.py:Rank.gather", "if self._gathered is not None",
               "version = 1 - version if share.step else version\nif self._gathered is not None",
               1), exchange=SHARED),
    Bug("stale-weights-star", "stale-weights",
        "Rank 1 computes with the weights of the step before.",
        Source("worker/gradients.py:StarRank.compute", "rank = self._rank",
               "before = vars(self).get('before', self._weights)\n"
               "self.before = self._weights.copy()\nself._weights[:] = before\nrank = self._rank",
               1), exchange=STAR),
    Bug("no-first-broadcast", "stale-weights",
        "Rank 1 begins with weights that it has drawn itself.",
        Source("worker/gradients.py:StarRank.take", 'receive(self._socket, target, "weights")',
               "receive(self._socket, target, 'weights')\n"
               "if bucket == vars(self).setdefault('begun', 0):\n    self.begun += 1\n"
               "    job = self._rank.job\n"
               "    drawn = job.network.initial_parameters(1, job.dtype)\n"
               "    target[:] = drawn[start:stop]", 1), exchange=STAR),
    Bug("update-skipped", "update-skipped",
        "Rank 1 leaves its slice of the weights as it is in the second step.",
        Source("optim/updater.py:Updater.update", "for piece in pieces:",
               "for (w, _, slots, new_w, new_slots, _), _ in pieces * (step == 1):\n"
               "    for new, old in zip([new_w, *new_slots], [w, *slots]):\n"
               "        np.copyto(new, old)\nfor piece in pieces * (step != 1):", 1),
        habitat="momentum", exchange=SHARED),
    Bug("read-before-arrived", "race",
        "Rank 0 reduces when all but the last rank have arrived, and that is late: what it reads "
        "is of the step before.",
        (Source("exchange/collective.py:Collective.wait", _WAIT,
                f"{_AWAIT}if self._value % ARRIVALS:\n"
                f"    await_words(self, self._value, 1)\nelse:\n    {_WAIT}", 0),
         Source("exchange/collective.py:Collective.begin", _BEGIN,
                f"{_AWAIT}{_BEGIN}\nawait_words(self, self._value + ARRIVALS, 0)", 2)),
        exchange=SHARED),
    Bug("prefetched-too-early", "race",
        "The rows of the next step are read into the buffers that the backward pass still needs.",
        Source("exchange/rank.py:Rank.forward", _FORWARD,
               "share, self._gathered = self._gathered[0], None\n"
               "losses = found.summed_losses(found.forward())\n"
               "self.gather(share._replace(step=share.step + 1))\nreturn losses")),
    Bug("send-buffer-reused", "race",
        "All buckets are sent from one buffer, which is written again before it has been sent.",
        (SMALL_BUCKETS,
         Source("worker/gradients.py:_Sender.ready", "while", "while layer == 0 and"),
         Source("worker/gradients.py:StarRank.send", _FRAMES,
                "size = min(stop - start, self._buckets[-1].stop)\n"
                "found.gradients[:, start : start + size] = found.gradients[:, :size]\n"
                f"{_FRAMES}")), place="all", exchange=STAR),
    Bug("output-aliases-input", "race",
        "The sum of two ranks is written over what the third has handed in.",
        Source("exchange/slices.py:SliceUpdate.__init__", "low, high = where",
               "if len(additions) > 1:\n    (a, b, _), (_, c, out) = additions\n"
               "    additions = [(a, b, c), (c, c, out)]\nlow, high = where"), exchange=SHARED),
)  # fmt: skip
