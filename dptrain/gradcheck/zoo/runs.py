"""Bugs that no single gradient shows: rows read wrongly, evaluations, and what a run keeps."""

from functools import partial

from dptrain.gradcheck.zoo.bug import Bug
from dptrain.gradcheck.zoo.source import Source

_kept = partial(Bug, place="coordinator", habitat="adamw")
_written = partial(Source, "coordinator/trainer.py:Trainer._checkpoint", "(names, state.slots,")
_saved = partial(Source, "coordinator/beginning.py:saved_state")

BUGS = (
    Bug("changed-when-built", "network-not-rebuilt",
        "A setting is changed when the network has been built, and changes nothing.",
        Source("experiment/job.py:Job.__init__", "build_network(experiment,",
               "build_network(msgspec.structs.replace(experiment, layers=[\n"
               "    {'layer': 'sigmoid'} if each == {'layer': 'tanh'} else each\n"
               "    for each in experiment.layers]),"), "the study notes"),
    Bug("accuracy-inverted", "accuracy-inverted", "1 - accuracy is stored as the accuracy.",
        Source("nn/loss.py:BoundLoss.correct", "decided == t", "decided != t"), "the study notes"),
    Bug("one-order", "same-order",
        "The rows come in the same order in every epoch, as without DistributedSampler.set_epoch.",
        Source("experiment/job.py:Job.minibatch", "seed, epoch", "seed, 0"), place="all"),
    Bug("noise-repeats", "augmentation-repeated",
        "The noise of augmentation is that of the first step in all of them.",
        Source("data/augmentation.py:Augmenter._add_noise", "fill(step,", "fill(0,"),
        place="all", habitat="noise"),
    Bug("grey-by-256", "inputs-scaled", "Grey values are divided by 256 instead of 255.",
        Source("data/inputs.py:scale_grey", "type(255)", "type(256)"),
        place="all", habitat="images"),
    Bug("targets-without-index", "targets-of-other-rows",
        "A split's inputs are read through its index, and its targets are not.",
        Source("data/dataset.py:Split.gather", "targets.take(rows", "targets.take(order"),
        place="all"),
    Bug("dropout-in-evaluation", "evaluation-dropout",
        "Evaluations drop units out, as where eval() was forgotten.",
        Source("nn/passes.py:evaluation", "training=False", "training=True"), habitat="dropout"),
    Bug("correct-of-half", "accuracy-miscounted", "Only half of the correct rows are counted.",
        Source("nn/passes.py:Pass.correct", "return self.loss.correct()",
               "return [each // 2 for each in self.loss.correct()]")),
    _kept("moments-exchanged", "state-exchanged",
          "Adam's two moments are written in each other's place.",
          _written("(names, state.slots[::-1],"), habitat="adam"),
    _kept("moments-rounded", "checkpoint-rounded",
          "Adam's moments are rounded to float32 in the checkpoints of a float64 run.",
          _written("(names, [m.astype(np.float32).astype(m.dtype) for m in state.slots],")),
    _kept("moments-forgotten", "state-lost",
          "A resumed run begins with moments of zero, although its checkpoint has them.",
          _saved("slots.append(np.array(saved))", "slots.append(np.zeros_like(saved))")),
    _kept("biases-forgotten", "tensor-lost", "A resumed run begins with biases of zero.",
          _saved("return State(parameters, slots)",
                 "for tensor in job.network.views(parameters).values():\n"
                 "    tensor *= tensor.ndim > 1\nreturn State(parameters, slots)"),
          habitat="plain"),
)  # fmt: skip
