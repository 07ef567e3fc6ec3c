"""Bugs on the way of a gradient: rounding, layout, framing, and what the coordinator makes of it."""

from functools import partial

from dptrain.gradcheck.zoo.bug import SHARED, STAR, Bug
from dptrain.gradcheck.zoo.shards import handed_in
from dptrain.gradcheck.zoo.source import Source

FLIPPED_BIT = 20
# A bucket for every layer, also of a small network; that alone changes no bit.
SMALL_BUCKETS = Source("exchange/buckets.py:buckets", ">= BUCKET_BYTES", ">= 64")

_send = partial(Source, "worker/gradients.py:StarRank.send")
_BUCKET = "_, start, stop = self._buckets[number]"
_sum = partial(Source, "exchange/star.py:StarReducer._sum")
_in_coordinator = partial(Bug, place="coordinator", exchange=STAR)


def _of_layers(text: str) -> Source:
    """Change what rank 1 hands in of every layer: ``own`` has its tensors."""
    changed = text.replace("\n", "\n    ")
    return handed_in(f"for own in filter(None, self.job.network.tensors):\n    {changed}", 1)


BUGS = (
    Bug("float16-wire", "float16", "Gradients travel in float16.",
        handed_in("g[:] = g.astype(np.float16)")),
    Bug("float32-wire", "float32", "The gradients of a float64 run travel in float32.",
        handed_in("g[:] = g.astype(np.float32)")),
    Bug("big-endian", "byte-order", "The bytes of rank 1's numbers come in the other order.",
        handed_in("g.byteswap(inplace=True)", 1)),
    Bug("parameter-order", "parameter-order",
        "Rank 1 hands in a layer's tensors in another order than the others.",
        _of_layers("parts = [g[each.start : each.stop].copy() for each in own[::-1]]\n"
                   "g[own[0].start : own[-1].stop] = np.concatenate(parts)"), "DeepSpeed #2343"),
    Bug("bucket-offset", "bucket-offset", "Rank 1's buckets begin one element too late.",
        (SMALL_BUCKETS, _send(_BUCKET, f"{_BUCKET}\nlate = stop < len(self._weights)\n"
                                       "start, stop = start + late, stop + late", 1)),
        place="all", exchange=STAR),
    Bug("slice-offset", "bucket-offset",
        "Rank 1's slice begins one element too late: that element is never updated.",
        Source("exchange/lockstep.py:LockstepRank.__init__",
               "self._slice = slices(job.network.size, ranks)[rank]",
               "low, high = slices(job.network.size, ranks)[rank]\nself._slice = low + 1, high", 1),
        habitat="momentum", exchange=SHARED),
    Bug("transposed", "transposed", "Rank 1 hands in its matrices column by column.",
        _of_layers("for each in own:\n    matrix = g[each.start : each.stop].reshape(each.shape)\n"
                   "    matrix.ravel()[:] = matrix.ravel(order='F')")),
    Bug("zero-tail", "truncated",
        "The last quarter of what rank 1 hands in of a layer is lost, and read as zeros.",
        _of_layers("low, high = own[0].start, own[-1].stop\ng[(low + 3 * high) // 4 : high] = 0")),
    Bug("truncated-frame", "truncated", "Rank 1's frames are one number too short.",
        _send(_BUCKET, f"{_BUCKET}\nstop -= 1", 1), exchange=STAR),
    Bug("bit-flip", "bit-flip",
        f"Bit {FLIPPED_BIT} of the largest number that rank 1 hands in of a layer is flipped.",
        _of_layers("part = g[own[0].start : own[-1].stop]\n"
                   f"part.view(np.int64)[np.abs(part).argmax()] ^= 1 << {FLIPPED_BIT}")),
    Bug("nan-swallowed", "nan-swallowed",
        "NaN is replaced by zero, in losses and gradients: a run that should end goes on.",
        (handed_in("np.nan_to_num(g, copy=False)"),
         Source("exchange/rank.py:Rank.forward", "return found.summed_losses(found.forward())",
                "return np.nan_to_num(found.summed_losses(found.forward())).tolist()")),
        habitat="overflow"),
    _in_coordinator(
        "star-averaged-again", "divided-twice",
        "The coordinator divides what is the mean already by the number of ranks.",
        _sum("values.clear()", "total /= 3\nvalues.clear()")),
    _in_coordinator(
        "star-arrival-order", "arrival-order",
        "The coordinator adds up what ranks have sent as it arrives, here the last rank's first.",
        _sum("additions = remaining_additions(leaves, self._edges)",
             "parts = [values[root] for root in sorted(values, reverse=True)]\n"
             "values[0], additions = sum(parts[1:], parts[0]), ()")),
    _in_coordinator(
        "star-first-for-all", "same-shard",
        "All ranks' frames are read from the buffer of the first.",
        _sum("total = self._gradient[start:stop]",
             "values.update(dict.fromkeys(values, values[min(values)]))\n"
             "total = self._gradient[start:stop]")),
    _in_coordinator(
        "star-not-reset", "not-reset", "The coordinator's sum begins with that of the step before.",
        _sum("values.clear()", "kept = vars(self).setdefault('kept', {})\n"
             "total += kept.get(bucket, 0)\nkept[bucket] = total.copy()\nvalues.clear()")),
)  # fmt: skip
