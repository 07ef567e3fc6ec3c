"""A bug as programmers make it: one function of the real source, with a piece of text exchanged."""

from typing import NamedTuple

import pytest

from dptrain.gradcheck.zoo.bug import Source
from dptrain.gradcheck.zoo.source import changed, function_at


class Slip(NamedTuple):
    """A bug, and what it must be put down to.

    Attributes:
        where: module and function, such as ``"data.dataset:Split.gather"``.
        old: the text that is exchanged; it stands in the function exactly once, as of `Source`.
        new: what stands there instead.
        told: how kind and sentence of the diagnosis begin, with ``": "`` between them.
    """

    where: str
    old: str
    new: str
    told: str

    def __str__(self) -> str:
        return f"{self.where} {self.new}"

    def let_loose(self, patch: pytest.MonkeyPatch) -> None:
        """Give the function the wrong code, wherever it has been imported."""
        for place, code in changed([self.source]).items():
            patch.setattr(function_at(place), "__code__", code)

    @property
    def source(self) -> Source:
        """What is exchanged, as the zoo's bugs have it."""
        module, _, name = self.where.partition(":")
        return Source(f"{module.replace('.', '/')}.py:{name}", self.old, self.new)


ORDER, MINIBATCH = "data.dataset:epoch_order", "experiment.job:Job.minibatch"
SPLIT, SOME = "data.dataset:_hold_out", "data.dataset:_some"
# In which rows are visited when: the rows of one process tell them, and what real workers count.
VISITS = [
    Slip(ORDER, "epoch)", "0)", "same-order: Every epoch visits the rows in the same order."),
    Slip(ORDER, "epoch)", "epoch % 2)", "same-order: The order of the rows comes again after 2 ep"),
    Slip(ORDER, "epoch)", "epoch + 1)", "order-of-another-epoch: "),
    Slip(ORDER, "generator(seed, Purpose.SHUFFLE, epoch).permutation(rows)", "np.arange(rows)",
         "not-shuffled: "),
    Slip(ORDER, "(seed,", "(seed + 1,",
         "order-of-another-seed: The rows are shuffled with the seed 4 instead of 3."),
    Slip(ORDER, "permutation(rows)", "integers(rows, size=rows)",
         "drawn-with-replacement: Rows are drawn with replacement: of "),
    Slip(MINIBATCH, "divmod(step,", "divmod(step + 1,",
         "rows-of-another-step: Every step visits the rows of the step after it."),
    Slip(MINIBATCH, "position * self.batch_size",
         "min(position * self.batch_size, len(self._order[1]) - self.batch_size)",
         "minibatch-filled-up: The last minibatch of an epoch is filled up with rows before it."),
    Slip(SPLIT, "np.sort(rows[order[count:]])", "rows", "held-out-rows-trained: "),
    Slip(SOME, "np.sort(rows[order[:count]])", "rows", "rows-outside-training: "),
]  # fmt: skip
