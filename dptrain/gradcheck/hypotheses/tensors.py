"""Bugs that hit some tensors and not others."""

from collections.abc import Iterator

import numpy as np

from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis


def hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """Yield what each bug would lead to, for every group of tensors that is wrong."""
    e = evidence
    wrong = [(t, own) for t, own in e.spans() if e.is_wrong(t)]
    if not wrong or len(wrong) == len(e.tensors):
        wrong = list(e.spans())
    names = ", ".join(t.name for t, _ in wrong[:4]) + (" …" if len(wrong) > 4 else "")
    biases = all(t.name.rpartition(".")[2] in ("b", "beta") for t, _ in wrong)

    def changed(factor: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        found = e.right.copy()
        for _, own in wrong:
            found[own] *= factor
        return found

    if biases:
        yield Hypothesis("bias-missing", f"the gradient of {names} is missing", changed(0.0))
    yield Hypothesis("sign", f"the gradient of {names} has the wrong sign", changed(-1.0))
    yield Hypothesis("tied-twice", f"the gradient of {names} is counted twice", changed(2.0))
    for number, what in ((len(e.ranks), "ranks"), (sum(e.sizes), "rows")):
        sentence = f"the gradient of {names} is multiplied by the {number} {what}"
        yield Hypothesis("sum-not-mean", sentence, changed(float(number)))
    yield Hypothesis("reset-early", f"the gradient of {names} is zero", changed(0.0))
    for rank, (low, high) in enumerate(e.ranks):
        found = e.right.copy()
        for _, own in wrong:
            found[own] -= e.shards[low:high, own].sum(axis=0)
        yield Hypothesis("shard-dropped", f"rank {rank}'s part of {names} is missing", found)
    for tensor, own in wrong:
        if len(tensor.shape) > 1:
            found = e.right.copy()
            found[own] = e.right[own].reshape(tensor.shape).T.reshape(-1)
            yield Hypothesis("transposed", f"the gradient of {tensor.name} is transposed", found)
    yield from _transposed_all(e)


def _transposed_all(e: Evidence) -> Iterator[Hypothesis]:
    found = e.right.copy()
    for tensor, own in e.spans():
        found[own] = e.right[own].reshape(tensor.shape).T.reshape(-1)
    yield Hypothesis("transposed", "every matrix of the gradient is transposed", found)
    for rank, (low, high) in enumerate(e.ranks):
        part = e.shards[low:high].sum(axis=0)
        found = e.right - part
        for tensor, own in e.spans():
            found[own] += part[own].reshape(tensor.shape).T.reshape(-1)
        yield Hypothesis("transposed", f"rank {rank}'s matrices are transposed", found)
