"""All deliberate bugs by name, and some of them where they change nothing."""

from dataclasses import replace

from dptrain.gradcheck.zoo import layers, shards, updates, wire
from dptrain.gradcheck.zoo.bug import Bug

BUGS: dict[str, Bug] = {
    bug.name: bug for subject in (shards, wire, layers, updates) for bug in subject.BUGS
}


def _harmless(name: str, of: str, habitat: str, sentence: str) -> Bug:
    return replace(BUGS[of], name=name, sentence=sentence, habitat=habitat, equivalent=True)


# The checker must let them pass.
_EQUIVALENTS = (
    _harmless("mean-of-means-even", "mean-of-means", "even",
              "The mean of the ranks' means where all ranks have as many rows."),
    _harmless("float32-wire-float32", "float32-wire", "float32",
              "float32 on the wire of a float32 run."),
    _harmless("arrival-order-one-shard", "arrival-order", "one-row",
              "The order of a sum over a single shard."),
    _harmless("no-decay-multiplied", "weight-decay-multiplied", "no-decay",
              "Weight decay of 0, once for every rank."),
    _harmless("no-decay-on-biases", "decay-on-biases", "no-decay",
              "Weight decay of 0, on biases too."),
    _harmless("unclipped-before-reduce", "clip-before-reduce", "unclipped",
              "Every rank clips its own gradient, but none is large enough."),
    _harmless("unclipped-norm-reduced-again", "norm-reduced-again", "unclipped",
              "The norm is too large, but not too large for the clipping."),
    _harmless("constant-schedule-shifted", "schedule-shifted", "unclipped",
              "The rate of the next step, where all steps have the same."),
    _harmless("no-dropout-scale", "dropout-scale", "no-dropout",
              "Dropout that leaves nothing out has nothing to scale."),
    _harmless("relu-off-zero", "relu-at-zero", "relu",
              ">= for > where no activation is exactly 0."),
)  # fmt: skip

BUGS |= {bug.name: bug for bug in _EQUIVALENTS}
