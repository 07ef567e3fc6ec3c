"""Bugs in what becomes of a gradient: the update, and what no gradient shows of a whole run."""

from functools import partial

from dptrain.gradcheck.zoo.bug import SHARED, Bug, Source

_momentum = partial(Bug, place="all", habitat="momentum")
_adam = partial(Bug, place="all", habitat="adam")
_clip = partial(Source, "optim/updater.py:Updater.clip_factor")
_schedule = partial(Source, "optim/schedules.py:Schedule.__call__")
_adam_rule = partial(Source, "optim/rules.py:Adam.update")
_momentum_rule = partial(Source, "optim/rules.py:Momentum.update")
_all = partial(Bug, place="all", exchange=SHARED)
_kept = partial(Bug, place="coordinator", habitat="adamw", exchange=SHARED)
_written = partial(Source, "coordinator/trainer.py:Trainer._checkpoint", "(names, state.slots,")
_saved = partial(Source, "coordinator/initial_state.py:saved_state")
_OWN_CLIPPED = (
    "found.backward()\n"
    "roots = list(found.roots)\n"
    "own = sum(block.shards * block.rows for block in found.blocks)\n"
    "norm = np.linalg.norm(found.gradients[roots].sum(0))\n"
    "limit = self.job.experiment.clip_norm * own / found.rows\n"
    "found.gradients[roots] *= limit / norm if norm > limit else 1\n"
    "if ready is not None:\n    ready(0)"
)

BUGS = (
    _momentum("clip-before-reduce", "Every rank clips its own gradient, and nobody the sum.",
              (Source("exchange/rank.py:Rank.backward", "found.backward(ready)", _OWN_CLIPPED),
               _clip("return min(1.0, self.clip_norm / norm) if norm else 1.0", "return 1.0"))),
    _momentum("norm-reduced-again", "The squared norm of the reduced gradient is summed over the "
              "ranks once more.", _clip("tree_sum(", "3 * tree_sum(")),
    _momentum("norms-summed", "The norms of the parts are summed, not their squares.",
              _clip("math.sqrt(tree_sum(squared_norms))", "sum(map(math.sqrt, squared_norms))"),
              "fastmoe #65"),
    _momentum("weight-decay-multiplied", "Every rank adds weight decay, and their gradients are "
              "summed.", Source("optim/rules.py:Rule.weight_decay", "(rate)", "(3 * rate)")),
    _momentum("decoupled-decay-multiplied", "The weight decay of AdamW is applied once for every "
              "rank.", Source("optim/rules.py:AdamW.weight_decay", "(rate)", "(3 * rate)"),
              kind="weight-decay-multiplied", habitat="adamw"),
    _momentum("decay-on-biases", "Weight decay applies to biases too.",
              Source("optim/updater.py:Updater.links",
                     "any(low <= place < high for low, high in self.decaying)", "self.decaying")),
    _adam("adam-step", "Adam counts its steps from 2.",
          _adam_rule("w, g, (m, v)", "at = at._replace(step=at.step + 1)\nw, g, (m, v)")),
    _adam("epsilon-inside", "Adam adds epsilon before it takes the root.",
          _adam_rule("np.sqrt(new_v, out=g)\nnp.add(g, self.epsilon * r, out=g)",
                     "np.add(new_v, self.epsilon * r * r, out=g)\nnp.sqrt(g, out=g)")),
    _momentum("lr-multiplied", "A learning rate that is scaled by the ranks already is scaled once "
              "more.", _schedule("self.lr * self.factor", "3 * self.lr * self.factor")),
    _adam("schedule-shifted", "The learning rate is that of the next step.",
          _schedule("if step < self.warmup:", "step += 1\nif step < self.warmup:")),
    Bug("state-lost", "A resumed run begins with a new optimizer state.",
        (Source("coordinator/shared.py:SharedCluster.__init__", "copyto(slot, value)",
                "copyto(slot, 0)"),
         Source("coordinator/star.py:StarCluster.__init__", "state.slots",
                "[np.zeros_like(slot) for slot in state.slots]")),
        habitat="resume", place="coordinator"),
    Bug("step-lost", "A resumed run counts the steps of schedule and rule from 0.",
        Source("optim/updater.py:Updater.update", "at = UpdateMoment(",
               "step -= vars(self).setdefault('begun', step)\nat = UpdateMoment("),
        kind="state-lost", habitat="resume", place="all"),
    _momentum("momentum-sign", "The velocity is taken off the gradient instead of added.",
              _momentum_rule("v, self.momentum", "v, -self.momentum")),
    _momentum("update-to-copy", "The new weights are written to a copy, and the old ones stay.",
              _momentum_rule("np.subtract(w, g, out=new_w)",
                             "np.copyto(new_w, w)\nnp.subtract(w, g, out=new_w.copy())")),
    Bug("changed-when-built", "A setting is changed when the network has been built, and changes "
        "nothing.", Source("experiment/job.py:Job.__init__", "build_network(experiment,",
                           "build_network(msgspec.structs.replace(experiment, layers=[\n"
                           "    {'layer': 'sigmoid'} if each == {'layer': 'tanh'} else each\n"
                           "    for each in experiment.layers]),"),
        "the study notes", "network-not-rebuilt"),
    Bug("accuracy-inverted", "1 - accuracy is stored as the accuracy.",
        Source("nn/loss.py:BoundLoss.correct", "decided == t", "decided != t"), "the study notes"),
    _all("one-order", "The rows come in the same order in every epoch, as without "
         "DistributedSampler.set_epoch.",
         Source("experiment/job.py:Job.minibatch", "seed, epoch", "seed, 0"), kind="same-order"),
    _all("noise-repeats", "The noise of augmentation is that of the first step in all of them.",
         Source("data/augmentation.py:Augmenter._add_noise", "fill(step,", "fill(0,"),
         kind="augmentation-repeated", habitat="noise"),
    _all("grey-by-256", "Grey values are divided by 256 instead of 255.",
         Source("data/inputs.py:scale_grey", "type(255)", "type(256)"),
         kind="inputs-scaled", habitat="images"),
    _all("targets-without-index", "A split's inputs are read through its index, its targets are "
         "not.", Source("data/dataset.py:Split.gather", "targets.take(rows", "targets.take(order"),
         kind="targets-of-other-rows"),
    Bug("dropout-in-evaluation", "Evaluations drop units out, as where eval() was forgotten.",
        Source("nn/passes.py:evaluation", "training=False", "training=True"),
        kind="evaluation-dropout", habitat="dropout", exchange=SHARED),
    Bug("correct-of-half", "Only half of the correct rows are counted.",
        Source("nn/passes.py:Pass.correct", "return self.loss.correct()",
               "return [each // 2 for each in self.loss.correct()]"),
        kind="accuracy-miscounted", exchange=SHARED),
    _kept("moments-exchanged", "Adam's two moments are written in each other's place.",
          _written("(names, state.slots[::-1],"), kind="state-exchanged", habitat="adam"),
    _kept("moments-rounded", "Adam's moments are rounded to float32 in checkpoints of a float64 "
          "run.", _written("(names, [m.astype(np.float32).astype(m.dtype) for m in state.slots],"),
          kind="checkpoint-rounded"),
    _kept("moments-forgotten", "A resumed run begins with moments of zero, although its checkpoint "
          "has them.", _saved("np.array(saved)", "np.zeros_like(saved)"), kind="state-lost"),
    _kept("biases-forgotten", "A resumed run begins with biases of zero.",
          _saved("return TrainingState", "for tensor in job.network.views(parameters).values():\n"
                 "    tensor *= tensor.ndim > 1\nreturn TrainingState"), kind="tensor-lost",
          habitat="plain"),
)  # fmt: skip
