"""Bugs between the reduced gradient and the new weights."""

from functools import partial

from dptrain.gradcheck.zoo.bug import Bug
from dptrain.gradcheck.zoo.source import Source

_momentum, _adam, _resume = (
    partial(Bug, place="all", habitat=habitat) for habitat in ("momentum", "adam", "resume")
)
_clip = partial(Source, "optim/updater.py:Updater.clip_factor")
_schedule = partial(Source, "optim/schedules.py:Schedule.__call__")
_UNPACKED = "w, g, (m, v), new_w, (new_m, new_v), _ = arrays"
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
    _momentum(
        "clip-before-reduce", "clip-before-reduce",
        "Every rank clips its own gradient, and the sum is not clipped.",
        (Source("exchange/rank.py:Rank.backward", "found.backward(ready)", _OWN_CLIPPED),
         _clip("return min(1.0, self.clip_norm / norm) if norm else 1.0", "return 1.0"))),
    _momentum(
        "norm-reduced-again", "norm-reduced-again",
        "The squared norm of the reduced gradient is summed over the ranks once more.",
        _clip("tree_sum(squared_norms)", "3 * tree_sum(squared_norms)")),
    _momentum(
        "norms-summed", "norms-summed", "The norms of the parts are summed, not their squares.",
        _clip("math.sqrt(tree_sum(squared_norms))", "sum(map(math.sqrt, squared_norms))"),
        "fastmoe #65"),
    _momentum(
        "weight-decay-multiplied", "weight-decay-multiplied",
        "Every rank adds weight decay, and their gradients are summed.",
        Source("optim/rules.py:Rule.weight_decay", "Decay(rate)", "Decay(3 * rate)")),
    _momentum(
        "decoupled-decay-multiplied", "weight-decay-multiplied",
        "The weight decay of AdamW is applied once for every rank.",
        Source("optim/rules.py:AdamW.weight_decay", "Decay(rate)", "Decay(3 * rate)"),
        habitat="adamw"),
    _momentum(
        "decay-on-biases", "decay-on-biases", "Weight decay applies to biases too.",
        Source("optim/updater.py:Updater.links",
               "if any(low <= place < high for low, high in self.decaying):", "if self.decaying:")),
    _adam(
        "adam-step", "adam-step", "Adam counts its steps from 2.",
        Source("optim/rules.py:Adam.update", _UNPACKED,
               f"at = at._replace(step=at.step + 1)\n{_UNPACKED}")),
    _adam(
        "epsilon-inside", "epsilon-inside", "Adam adds epsilon before it takes the root.",
        Source("optim/rules.py:Adam.update",
               "np.sqrt(new_v, out=g)\nnp.add(g, self.epsilon * r, out=g)",
               "np.add(new_v, self.epsilon * r * r, out=g)\nnp.sqrt(g, out=g)")),
    _momentum(
        "lr-multiplied", "lr-multiplied",
        "A learning rate that is scaled by the ranks already is scaled once more.",
        _schedule("self.lr * self.factor", "3 * self.lr * self.factor")),
    _adam(
        "schedule-shifted", "schedule-shifted", "The learning rate is that of the next step.",
        _schedule("if step < self.warmup:", "step += 1\nif step < self.warmup:")),
    _resume(
        "state-lost", "state-lost", "A resumed run begins with a new optimizer state.",
        (Source("coordinator/shared.py:SharedCluster.__init__", "np.copyto(slot, value)",
                "slot.fill(0)"),
         Source("coordinator/star.py:StarCluster.__init__", "state.parameters, state.slots",
                "state.parameters, [np.zeros_like(slot) for slot in state.slots]")),
        place="coordinator"),
    _resume(
        "step-lost", "state-lost",
        "A resumed run counts the steps of schedule and rule from 0.",
        Source("optim/updater.py:Updater.update", "at = Moment(",
               "step -= vars(self).setdefault('begun', step)\nat = Moment(")),
    _momentum(
        "momentum-sign", "momentum-sign",
        "The velocity is taken off the gradient instead of added.",
        Source("optim/rules.py:Momentum.update", "v, self.momentum", "v, -self.momentum")),
    _momentum(
        "update-to-copy", "update-to-copy",
        "The new weights are written to a copy, and the old ones stay.",
        Source("optim/rules.py:Momentum.update", "np.subtract(w, g, out=new_w)",
               "np.copyto(new_w, w)\nnp.subtract(w, g, out=new_w.copy())")),
)  # fmt: skip
