"""Where a gradient begins to be wrong, on its way from the loss to the inputs."""

from collections.abc import Sequence

from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis
from dptrain.gradcheck.reference.network import Reference
from dptrain.gradcheck.reference.places import leaves
from dptrain.nn.layer import Layer

# What is most often wrong with a layer whose output's gradient is right and whose input's is not.
KINDS = {
    "dropout": ("dropout-other-mask", "the mask of the backward pass is another"),
    "batchnorm": ("batchnorm-backward-local", "the sums of the backward pass are wrong"),
    "conv2d": ("conv-flip", "the input's gradient is wrong"),
    "maxpool2d": ("pooling-ties", "the gradient goes to the wrong pixels"),
    "avgpool2d": ("missing-mean", "the input's gradient is wrong"),
    "dense": ("layer-input", "the gradient of weights or input is made of something else"),
}
OTHERS = ("activation-derivative", "the derivative is wrong")


def located(reference: Reference, evidence: Evidence) -> list[Hypothesis]:
    """Return what can be said when no bug that is known predicts the gradient.

    All tensors behind the faulty layer are right, and the loss with them. The prediction is what
    was found, with a little added, so that every bug that is known comes first.
    """
    row = list(leaves(reference.network.row))
    names = [name for _, name, _ in row]
    wrong = {t.name.rpartition(".")[0] for t in evidence.tensors if evidence.is_wrong(t)}
    places = [i for i, name in enumerate(names) if name in wrong]
    if not places:
        return []
    last = max(places)
    own = [t for t in evidence.tensors if t.name.rpartition(".")[0] == names[last]]
    partly = not all(map(evidence.is_wrong, own))
    predicted = evidence.found * (1 + 1e-6)
    if partly and last == 0:
        sentence = f"{names[0]}: its inputs have changed between the two passes"
        return [Hypothesis("race", sentence, predicted)]
    if partly:
        kind, what = KINDS.get(row[last][2].kind, OTHERS)
        return [Hypothesis(kind, f"{names[last]}: {what}", predicted)]
    suspects: Sequence[tuple[str, Layer]] = [
        (name, layer) for _, name, layer in row[last + 1 :] if not _parametrised(evidence, name)
    ]
    behind = _next_with_tensors(evidence, names, last)
    between = [(n, layer) for n, layer in suspects if names.index(n) < behind]
    between.sort(key=lambda each: each[1].kind not in KINDS)
    found = []
    for name, layer in between or [(names[last], row[last][2])]:
        kind, what = KINDS.get(layer.kind, OTHERS)
        found.append(Hypothesis(kind, f"{name}: {what}", predicted))
    return found


def _parametrised(evidence: Evidence, layer: str) -> bool:
    return any(t.name.rpartition(".")[0] == layer for t in evidence.tensors)


def _next_with_tensors(evidence: Evidence, names: Sequence[str], last: int) -> int:
    later = (i for i in range(last + 1, len(names)) if _parametrised(evidence, names[i]))
    return next(later, len(names))
