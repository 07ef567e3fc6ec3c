"""Bugs between the ranks: what travels is rounded, cut or displaced, or read at the wrong time.

Whatever shows a wrong time is made certain by waiting for other ranks, never for a length of time.
"""

import time
from functools import partial
from typing import Any

from dptrain.exchange.barrier import LINE_WORDS, Recalled
from dptrain.exchange.collective import Collective
from dptrain.gradcheck.zoo.bug import SHARED, STAR, Bug, Source
from dptrain.gradcheck.zoo.shards import handed_in

PAUSE = 2e-4


def await_words(collective: Collective, value: int, rank: int) -> None:
    """Wait until a rank has come to a value.

    Raises:
        Recalled: it will not come there any more.
    """
    barrier: Any = collective._barrier
    while barrier._words[rank * LINE_WORDS] < value:
        if barrier._recalled():
            raise Recalled
        time.sleep(PAUSE)


def _of_layers(text: str) -> Source:
    """Change what rank 1 hands in of every layer: ``own`` has its tensors."""
    changed = text.replace("\n", "\n    ")
    return handed_in(f"for own in filter(None, self.job.network.tensors):\n    {changed}", 1)


# A bucket for every layer, also of a small network; that alone changes no bit.
_SMALL_BUCKETS = Source("exchange/buckets.py:buckets", ">= BUCKET_BYTES", ">= 64")
_send = partial(Source, "worker/star.py:StarRank.send")
_BUCKET = "_, start, stop = self._buckets[number]"
_FRAMES = "frames = [found.gradients"
_star = partial(Bug, place="coordinator", exchange=STAR)
_sum = partial(Source, "exchange/star.py:StarReducer._sum")
_AWAIT = "from dptrain.gradcheck.zoo.wire import await_words\n"
_WAIT, _BEGIN = "self._barrier.wait(self._value)", "self._value = step * ARRIVALS"
_STALE = "Rank 1 computes with the weights of the step before."

BUGS = (
    Bug("float16-wire", "Gradients travel in float16.", handed_in("g[:] = g.astype(np.float16)"),
        kind="float16"),
    Bug("float32-wire", "The gradients of a float64 run travel in float32.",
        handed_in("g[:] = g.astype(np.float32)"), kind="float32"),
    Bug("big-endian", "The bytes of rank 1's numbers come in the other order.",
        handed_in("g.byteswap(inplace=True)", 1), kind="byte-order"),
    Bug("parameter-order", "Rank 1 hands in a layer's tensors in another order than the others.",
        _of_layers("parts = [g[each.start : each.stop].copy() for each in own[::-1]]\n"
                   "g[own[0].start : own[-1].stop] = np.concatenate(parts)"), "DeepSpeed #2343"),
    Bug("bucket-offset", "Rank 1's buckets begin one element too late.",
        (_SMALL_BUCKETS, _send(_BUCKET, f"{_BUCKET}\nlate = stop < len(self._weights)\n"
                                        "start, stop = start + late, stop + late", 1)),
        place="all", exchange=STAR),
    Bug("slice-offset", "Rank 1's slice begins one element too late, which is never updated.",
        Source("exchange/lockstep.py:LockstepRank.__init__", "self._shapes:",
               "self._slice = (self._slice[0] + 1, self._slice[1])\nself._shapes:", 1),
        kind="bucket-offset", habitat="momentum", exchange=SHARED),
    Bug("transposed", "Rank 1 hands in its matrices column by column.",
        _of_layers("for each in own:\n    matrix = g[each.start : each.stop].reshape(each.shape)\n"
                   "    matrix.ravel()[:] = matrix.ravel(order='F')")),
    Bug("zero-tail", "The last quarter of what rank 1 hands in of a layer is lost, and read as "
        "zeros.", _of_layers("low, high = own[0].start, own[-1].stop\n"
                             "g[(low + 3 * high) // 4 : high] = 0"), kind="truncated"),
    Bug("truncated-frame", "Rank 1's frames are one number too short.",
        _send(_BUCKET, f"{_BUCKET}\nstop -= 1", 1), kind="truncated", exchange=STAR),
    Bug("bit-flip", "Bit 20 of the largest number that rank 1 hands in of a layer is flipped.",
        _of_layers("part = g[own[0].start : own[-1].stop]\n"
                   "part.view(np.int64)[np.abs(part).argmax()] ^= 1 << 20")),
    Bug("nan-swallowed", "NaN is replaced by zero, in losses and gradients: a run that should end "
        "goes on.", (handed_in("np.nan_to_num(g, copy=False)"),
                     Source("exchange/rank.py:Rank.forward", "found.summed_losses(found.forward())",
                            "np.nan_to_num(found.summed_losses(found.forward())).tolist()")),
        habitat="overflow"),
    _star("star-averaged-again", "The coordinator divides what is the mean already by the "
          "number of ranks.", _sum("values.clear()", "total /= 3\nvalues.clear()"),
          kind="divided-twice"),
    _star("star-arrival-order", "The coordinator adds up what ranks have sent as it comes, "
          "here the last rank's first.",
          _sum("additions = remaining_additions(leaves, self._edges)",
               "parts = [values[root] for root in sorted(values, reverse=True)]\n"
               "values[0], additions = sum(parts[1:], parts[0]), ()"), kind="arrival-order"),
    _star("star-first-for-all", "All ranks' frames are read from the buffer of the first.",
          _sum("total =", "values.update(dict.fromkeys(values, values[min(values)]))\n"
                          "total ="), kind="same-shard"),
    _star("star-not-reset", "The coordinator's sum begins with that of the step before.",
          _sum("values.clear()", "kept = vars(self).setdefault('kept', {})\n"
               "total += kept.get(bucket, 0)\nkept[bucket] = total.copy()\nvalues.clear()"),
          kind="not-reset"),
    Bug("stale-weights-shared", _STALE,
        Source("exchange/rank.py:Rank.gather", "if self._gathered is",
               "version = 1 - version if share.step else version\nif self._gathered is", 1),
        kind="stale-weights", exchange=SHARED),
    Bug("stale-weights-star", _STALE,
        Source("worker/star.py:StarRank.compute", "rank = self._rank",
               "before = vars(self).get('before', self._weights)\n"
               "self.before = self._weights.copy()\nself._weights[:] = before\nrank = self._rank",
               1), kind="stale-weights", exchange=STAR),
    Bug("no-first-broadcast", "Rank 1 begins with weights that it has drawn itself.",
        Source("worker/star.py:StarRank.take", 'receive(self._socket, target, "weights")',
               "receive(self._socket, target, 'weights')\n"
               "if bucket == vars(self).setdefault('new', 0):\n    self.new += 1\n    target[:] "
               "= self._rank.job.network.initial_parameters(1, target.dtype)[start:stop]", 1),
        kind="stale-weights", exchange=STAR),
    Bug("update-skipped", "Rank 1 leaves its slice of the weights as it is in the second step.",
        Source("optim/updater.py:Updater.update", "for piece in pieces:",
               "for (w, _, slots, new_w, new_slots, _), _ in pieces * (step == 1):\n"
               "    for new, old in zip([new_w, *new_slots], [w, *slots]):\n"
               "        np.copyto(new, old)\nfor piece in pieces * (step != 1):", 1),
        habitat="momentum", exchange=SHARED),
    Bug("read-before-arrived", "Rank 0 reduces before the last rank, which is late, has arrived.",
        (Source("exchange/collective.py:Collective.wait", _WAIT, f"{_AWAIT}if self._value % "
                f"ARRIVALS:\n    await_words(self, self._value, 1)\nelse:\n    {_WAIT}", 0),
         Source("exchange/collective.py:Collective.begin", _BEGIN,
                f"{_AWAIT}{_BEGIN}\nawait_words(self, self._value + ARRIVALS, 0)", 2)),
        kind="race", exchange=SHARED),
    Bug("prefetched-too-early", "The next step's rows overwrite what the backward pass needs.",
        Source("exchange/rank.py:Rank.forward",
               "self._gathered = None\nreturn found.summed_losses(found.forward())",
               "share, self._gathered = self._gathered[0], None\n"
               "losses = found.summed_losses(found.forward())\n"
               "self.gather(share._replace(step=share.step + 1))\nreturn losses"), kind="race"),
    Bug("send-buffer-reused", "All buckets go from one buffer, written again before it is sent.",
        (_SMALL_BUCKETS,
         Source("worker/star.py:_Sender.ready", "while", "while layer == 0 and"),
         _send(_FRAMES, "size = min(stop - start, self._buckets[-1].stop)\n"
               f"found.gradients[:, start : start + size] = found.gradients[:, :size]\n{_FRAMES}")),
        kind="race", place="all", exchange=STAR),
    Bug("output-aliases-input", "The sum of two ranks is written over what the third has sent.",
        Source("exchange/slices.py:SliceUpdate.__init__", "low, high = where",
               "if len(additions) > 1:\n    (a, b, _), (_, c, out) = additions\n"
               "    additions = [(a, b, c), (c, c, out)]\nlow, high = where"),
        kind="race", exchange=SHARED),
)  # fmt: skip
