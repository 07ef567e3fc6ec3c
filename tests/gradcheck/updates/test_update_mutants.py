"""The optimizer's own source with one piece of text exchanged: found, and put down to that."""

from typing import Any

import pytest

from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Step, begin, steps
from dptrain.gradcheck.updates.one_step import diagnose_updates
from tests.exchange.build import OPTIMIZERS, Data
from tests.gradcheck.build import PLAIN, Wrong, experiment, weights
from tests.gradcheck.build import data as data
from tests.gradcheck.mutants import infect

STEPS, WORKERS = 8, 3
# about sixty rows in minibatches of 22
EPOCH = 3

LINKS, RULES, SCHEDULES, UPDATER = "links", "rules", "schedules", "updater"
MOMENTUM = {"optimizer": "momentum", "lr": 0.02}
NESTEROV = {"optimizer": "nesterov", "lr": 0.02}
ADAM = {"optimizer": "adam", "lr": 0.01}
ADAMW = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1}
LION = {"optimizer": "lion", "lr": 0.01, "beta1": 0.7, "beta2": 0.8}
ADAGRAD = {"optimizer": "adagrad", "lr": 0.02}
RMSPROP = {"optimizer": "rmsprop", "lr": 0.003}
DECAY, L1, CLIP = {"weight_decay": 0.05}, {"l1": 0.01}, {"clip_norm": 0.05}
EXPONENTIAL = {"schedule": "exponential", "decay_every": 3, "warmup": 2}
STEP = {"schedule": "step", "decay_every": 2, "warmup": 2}
COSINE = {"schedule": "cosine", "warmup": 2, "steps": 12}

HALF = "(1 + math.cos(math.pi * min(step, self.length) / self.length)) / 2"
DECAYED = "np.multiply(arrays.w, self.rate, out=arrays.scratch)"
LIMITED = "return min(1.0, self.clip_norm / norm)"
FACTOR = "np.multiply(arrays.g, at.clip, out=arrays.g)"
MOVED = "np.multiply(arrays.g, self.rate, out=arrays.g)\n            np.add(arrays.w"
APPLIED = "link.update(arrays, at)"
MOMENT = "UpdateMoment(step, self.schedule(step), factor)"
DECAYS = "if any(low <= place < high for low, high in self.decaying):"
REDUCED = (
    "The gradient is clipped by a norm that all ranks know already and that is reduced again: "
)
VELOCITY = """np.multiply(v, self.momentum, out=new_v)
        np.add(new_v, g, out=new_v)
        np.multiply(new_v, at.lr, out=g)
        np.subtract(w, g, out=new_w)"""
TWICE = """first = self.momentum * v + g
        np.add(self.momentum * first, g, out=new_v)
        np.subtract(w, at.lr * (first + new_v), out=new_w)"""
R = "math.sqrt((1 - self.beta2 ** (at.step + 1)) / (1 - self.beta2))"

# described, module, old text, new text, beginning of what it is put down to
Mutant = tuple[dict[str, Any], str, str, str, str]
MUTANTS: list[Mutant] = [
    (MOMENTUM, RULES, "np.multiply(v, self.momentum", "np.multiply(v, 1 - self.momentum",
     "What the velocity keeps of itself is 0.1 (= 1 - μ), not 0.9"),
    (MOMENTUM | EXPONENTIAL, RULES,
     "        np.add(new_v, g, out=new_v)\n        np.multiply(new_v, at.lr, out=g)",
     "        np.multiply(g, at.lr, out=g)\n        np.add(new_v, g, out=new_v)\n"
     "        np.copyto(g, new_v)", "The learning rate stands in the velocity"),
    (MOMENTUM, RULES, "        np.add(new_v, g, out=new_v)\n",
     "        np.multiply(g, 1 - self.momentum, out=g)\n        np.add(new_v, g, out=new_v)\n",
     "What the velocity takes of the gradient is 0.1 (= 1 - μ), not 1"),
    (NESTEROV, RULES, "        np.add(scratch, g, out=scratch)\n        np.multiply(scratch",
     "        np.add(scratch, new_v, out=scratch)\n        np.multiply(scratch",
     "The step goes along (1 + μ) v"),
    (NESTEROV, RULES, "np.multiply(new_v, self.momentum, out=scratch)", "np.copyto(scratch, new_v)",
     "The step goes along g + v"),
    (NESTEROV, RULES, "        np.multiply(new_v, self.momentum, out=scratch)\n"
     "        np.add(scratch, g, out=scratch)\n", "        np.copyto(scratch, new_v)\n",
     "The step goes along v, as plain momentum does"),
    (ADAGRAD, RULES, "np.multiply(g, g, out=scratch)\n        np.add(h",
     "np.abs(g, out=scratch)\n        np.add(h", "The gradient's size is kept"),
    (ADAGRAD, RULES, "    np.sqrt(h, out=scratch)", "    np.copyto(scratch, h)",
     "It divides by the squares themselves"),
    (RMSPROP, RULES, "_mix_squares(h, g, self.decay,", "_mix_squares(h, g, 0.9,",
     "What the squares' mean keeps of itself is 0.9, not 0.99"),
    (RMSPROP, RULES, "np.multiply(h, decay, out=new_h)", "np.copyto(new_h, h)",
     "What the squares' mean keeps of itself is 1, not 0.99"),
    (RMSPROP | {"epsilon": 1e-3}, RULES, "self.epsilon / root", "self.epsilon",
     "ε is added to the root of the state"),
    (RMSPROP, RULES, "at.lr / root,", "at.lr,",
     "The learning rate is 0.1 times what it should be (= √(1 - decay))"),
    (RMSPROP, RULES, "root = math.sqrt(1 - self.decay)", "root = 1 - self.decay",
     "What the squares' mean takes of a square is 0.0001 (= its square), not 0.01"),
    (ADAM, RULES, "- self.beta2 ** (at.step + 1)", "- self.beta2 ** (at.step + 2)",
     "The second moment's bias correction is a step ahead"),
    (ADAM, RULES, R, "((1 - self.beta2 ** (at.step + 1)) / (1 - self.beta2))",
     "The bias correction of the second moment stands outside"),
    (ADAM, RULES, R, "math.sqrt(1 / (1 - self.beta2))", "The second moment is not corrected"),
    (ADAM, RULES, "rate = at.lr * r *", "rate = at.lr *", "The step is divided by √(1 - β₂ᵗ)"),
    (ADAM, RULES, "rate = at.lr * r * (1 - self.beta1)", "rate = at.lr * r",
     "What the first moment takes of the gradient is 1, not 0.1"),
    (ADAM, RULES, "_mix_squares(v, g, self.beta2", "_mix_squares(v, g, self.beta1",
     "What the squares' mean keeps of itself is 0.9 (= β₁), not 0.999"),
    (ADAM, RULES, "np.multiply(m, self.beta1", "np.multiply(m, self.beta2",
     "What the first moment keeps of itself is 0.999 (= β₂), not 0.9"),
    (ADAM, RULES, "(1 - self.beta1 ** (at.step + 1))", "(1 - self.beta2 ** (at.step + 1))",
     "What the first moment's bias is corrected with is 0.999 (= β₂), not 0.9"),
    (ADAM, UPDATER, MOMENT, MOMENT.replace("step,", f"step % {EPOCH},"),
     "The bias correction's step t begins again with every epoch"),
    (ADAM, UPDATER, MOMENT, MOMENT.replace("step,", "step // 3,"),
     "The bias correction's step t counts epochs, not steps"),
    (ADAM, UPDATER, MOMENT, MOMENT.replace("step,", "step // 2,"),
     "The bias correction's step t is 1, 1, 2, 2, 3, 3"),
    (ADAMW, RULES, "np.sqrt(new_v, out=g)", "np.copyto(g, new_v)",
     "It divides by the squares themselves"),
    (ADAMW, LINKS, "1 - at.lr * self.rate", "1 - self.rate",
     "Weight decay is not multiplied by the learning rate"),
    (ADAMW | EXPONENTIAL, LINKS, "1 - at.lr *", "1 - 0.01 *",
     "Weight decay is multiplied by the base"),
    (ADAMW, UPDATER, APPLIED, "link.update(arrays, at._replace(step=step + len(piece.chain) - 1))",
     "Only in dense1.W, dense2.W: the bias correction's step is off by one"),
    (ADAMW | L1, UPDATER, "if self.l1 else", "if self.l1 and not self.rule.default_decay else",
     "The L1 penalty is missing"),
    (LION, RULES, "        np.sign(scratch, out=scratch)\n", "", "The sign is missing"),
    (LION, RULES, "self.beta1 * (1 - self.beta2) / (1 - self.beta1)",
     "self.beta2 * (1 - self.beta2) / (1 - self.beta2)",
     "β₁, as the step has it, is 0.8 (= β₂), not 0.7"),
    (LION, RULES, "        np.add(scratch, g, out=scratch)\n        np.multiply(m, self.beta2,",
     "        np.multiply(m, self.beta2,", "β₁, as the step has it, is 1, not 0.7"),
    (DECAY, LINKS, DECAYED, DECAYED.replace("self.rate", "self.rate / 2"),
     "Weight decay is 0.5 times"),
    (ADAM | DECAY, LINKS, DECAYED, DECAYED.replace("self.rate", "at.lr * self.rate"),
     "Weight decay is 0.01 times what it should be (= the learning rate)"),
    (DECAY, LINKS, DECAYED, DECAYED.replace("arrays.w,", "np.sign(arrays.w),"),
     "Weight decay is λ sign(w)"),
    (MOMENTUM | DECAY, LINKS, DECAYED, DECAYED.replace("self.rate", "self.rate * (at.step % 2)"),
     "Only in every second step: weight decay is missing"),
    (DECAY | L1, UPDATER, "[L1(self.l1)]", "[L1(self.weight_decay)]",
     "The L1 penalty is 5 times what it should be (= λ / l1)"),
    (L1, LINKS, "np.sign(arrays.w, out=arrays.scratch)", "np.copyto(arrays.scratch, arrays.w)",
     "The L1 penalty's gradient is l1 w"),
    (L1, LINKS, "np.sign(arrays.w,", "np.copysign(1.0, arrays.w,",
     "The L1 penalty moves weights that are exactly 0 down"),
    (CLIP | DECAY, UPDATER, "            chain += [L1", "            chain = [L1",
     "In step 1 the gradient of dense1.W and dense2.W is not clipped"),
    (CLIP, LINKS, FACTOR, FACTOR.replace("at.clip,", "at.clip * at.clip,"),
     "The gradient is clipped by its factor twice"),
    ({"clip_norm": 50.0}, UPDATER, LIMITED, "return (self.clip_norm / norm)",
     "Gradients smaller than the limit are scaled up"),
    (CLIP, UPDATER, LIMITED, "return self.clip_norm / (self.clip_norm + norm)",
     "The factor of clipping is limit / (limit + norm)"),
    (CLIP, UPDATER, "max(0, low - first - start) : max(0, high - first - start)", "0:0",
     "The gradient is clipped by a norm in which running averages"),
    (EXPONENTIAL, SCHEDULES, "self.rate ** (step / self.every)", "0.9 ** (step / self.every)",
     "The factor of the decay is 0.9"),
    (EXPONENTIAL, SCHEDULES, "(step / self.every)", "(step // self.every)",
     "The decay goes by whole periods"),
    (EXPONENTIAL, SCHEDULES, "(step + 1) / (self.warmup + 1)", "step / self.warmup",
     "The learning rate is wrong in the warm-up: it begins at 0"),
    (EXPONENTIAL, SCHEDULES, "self.factor(step - self.warmup)", "self.factor(step)",
     "The schedule counts from step 0"),
    (ADAM | EXPONENTIAL, UPDATER, "self.schedule(step)", "self.schedule(max(0, step - 1))",
     "The schedule is one step behind"),
    (STEP, SCHEDULES, "(step // self.every)", "((step + 1) // self.every)",
     "What the schedule takes off for the warm-up is 1, not 2"),
    (STEP, SCHEDULES, "(step // self.every)", "round(step / self.every)",
     "The decay counts periods from their middle"),
    (COSINE, SCHEDULES, HALF, HALF.removesuffix(" / 2"), "The cosine is not halved"),
    (COSINE, SCHEDULES, HALF, HALF.replace("1 +", "1 -"), "The cosine rises"),
    (MOMENTUM, UPDATER, "self.schedule(step)", "self.schedule(step) * 0.37",
     "The learning rate is 0.37 times"),
    (MOMENTUM, UPDATER, "self.schedule(step)",
     "self.schedule(step) * (2 if step % 3 == 0 else 1)",
     "The step's length is wrong in 3 of 8 steps: the learning rate is 0.04 instead of 0.02"),
    (MOMENTUM | DECAY, UPDATER, APPLIED,
     "link.update(arrays, at if piece.chain[1:] else at._replace(lr=2 * at.lr))",
     "dense1.b is updated by 2 times"),
    ({}, LINKS, MOVED, MOVED.replace("rate", "rate / 2"),
     "Running averages are mixed wrong: batchnorm1.mean becomes 0.95 of itself and 0.05"),
    ({}, LINKS, MOVED, MOVED.replace("add", "subtract"),
     "Running averages are mixed wrong: batchnorm1.mean becomes 1.1 of itself and -0.1"),
    (MOMENTUM, UPDATER, f"at = {MOMENT}\n",
     f"at = {MOMENT}\n        for each in pieces if step % {EPOCH} == 0 else ():\n"
     "            [slot.fill(0) for slot in each.arrays.slots]\n",
     "The optimizer's state is cleared where an epoch begins"),
    (ADAM | CLIP, LINKS, FACTOR, FACTOR.replace("at.clip,", "-at.clip,"),
     "The gradient has the wrong sign"),
    (DECAY, UPDATER, "self.schedule(step)", "-self.schedule(step)", "The weights move up"),
    (MOMENTUM, RULES, VELOCITY, TWICE, "The update is applied twice"),
    (ADAM, UPDATER, "self.schedule(step)", "self.schedule(step) * 3",
     "The learning rate is multiplied by the 3 workers."),
    (MOMENTUM, UPDATER, "self.schedule(step)", "self.schedule(step) * 9",
     "The learning rate is multiplied by the 3 workers, twice"),
    ({}, UPDATER, "self.schedule(step)", "self.schedule(step) / 3",
     "The learning rate is divided by the 3 workers"),
    (COSINE, UPDATER, "self.schedule(step)", "self.schedule(step + 1)",
     "The schedule is one step ahead"),
    ({"warmup": 4}, UPDATER, "self.schedule(step)", "self.schedule(step - 1)",
     "The schedule is one step behind"),
    (DECAY, LINKS, DECAYED, DECAYED.replace("self.rate", "self.rate * 3"),
     "Weight decay is applied 3 times"),
    (DECAY, LINKS, DECAYED, DECAYED.replace("self.rate", "self.rate / 3"),
     "Weight decay is divided by the 3 workers"),
    (ADAM | DECAY, LINKS, DECAYED, DECAYED.replace("self.rate", "0.0"), "Weight decay is missing"),
    (DECAY, UPDATER, DECAYS, "if True:", "Weight decay applies to biases too"),
    (L1, UPDATER, DECAYS, "if True:", "The L1 penalty applies to biases too"),
    (ADAM | DECAY, RULES, "return Decay(rate)", "return DecoupledDecay(rate)",
     "Weight decay bypasses the gradient"),
    (MOMENTUM, RULES, "np.multiply(v, self.momentum,", "np.multiply(v, -self.momentum,",
     "The momentum has the wrong sign"),
    (MOMENTUM, RULES, "np.multiply(v, self.momentum,", "np.multiply(v, 0.0,",
     "The optimizer's state is not kept"),
    (ADAGRAD, RULES, "np.add(h, scratch", "np.add(0 * h, scratch",
     "The optimizer's state is not kept"),
    (ADAM, UPDATER, f"at = {MOMENT}\n",
     f"at = {MOMENT}\n        for each in pieces if step == 2 else ():\n"
     "            [slot.fill(0) for slot in each.arrays.slots]\n",
     "The optimizer's state is lost before step 2."),
    (MOMENTUM, RULES, "at.lr, out=g)\n        np.subtract(w, g, out=new_w)\n\n\nclass Nesterov",
     "at.lr, out=g)\n\n\nclass Nesterov", "The weights are unchanged in steps 0, 1, 2"),
    (ADAM, UPDATER, "for piece in pieces:", "for piece in pieces[1:]:",
     "Neither the weights nor the optimizer's state moved in step 1"),
    (ADAM, UPDATER, MOMENT, MOMENT.replace("step,", "step + 1,"),
     "The bias correction's step is off by one: t is one too large"),
    (ADAM, UPDATER, MOMENT, MOMENT.replace("step,", "max(0, step - 1),"),
     "The bias correction's step is off by one: t is one too small"),
    ({}, LINKS, MOVED, MOVED.replace("self.rate", "1 - self.rate"),
     "Running averages keep what they should take"),
    ({"freeze": ["dense2.W"]}, LINKS, "elif arrays.new_w is not arrays.w:\n            np.copyto("
     "arrays.new_w, arrays.w)", "else:\n            np.add(arrays.w, 1e-9, out=arrays.new_w)",
     "What is frozen was changed: elements"),
    (ADAGRAD | {"epsilon": 1e-6}, RULES, "np.sqrt(h, out=scratch)\n    np.add(scratch, epsilon,",
     "np.sqrt(h + epsilon, out=scratch)\n    np.add(scratch, 0.0,", "ε stands inside the root"),
    (CLIP, UPDATER, "[Clip()] if self.clips else []", "[]", "The gradient is not clipped"),
    (CLIP | DECAY, UPDATER, LIMITED, LIMITED.replace("/ norm", "/ (3 * norm)"),
     REDUCED + "it is taken 3 times"),
    (CLIP | MOMENTUM, UPDATER, LIMITED, LIMITED.replace("/ norm", "/ (norm / 3)"),
     REDUCED + "it is divided by the 3 workers"),
    (CLIP, UPDATER, LIMITED, LIMITED.replace("/ norm", "/ (math.sqrt(3) * norm)"),
     REDUCED + "its square is taken 3 times"),
    (CLIP, UPDATER, "norm = math.sqrt(tree_sum(squared_norms))", "norm = tree_sum(squared_norms)",
     "The gradient is clipped by its squared norm"),
]  # fmt: skip


def small(**described: Any) -> dict[str, Any]:
    return experiment(batch_size=22, **described)


def trained(job: Job) -> list[Step]:
    """Return steps in this process, from weights of which one in each tensor is 0."""
    start = weights(job)
    for tensor in job.network.all_tensors():
        if tensor.trained:
            start[tensor.start] = 0
    return list(steps(Wrong(job, begin(job, start)), 0, STEPS))


def found(data: Data, described: dict[str, Any], *mutant: str) -> list[Diagnosis]:
    job, clean = (data.job(small(**described)) for _ in range(2))
    assert job.steps_per_epoch == EPOCH
    if mutant:
        infect(job, *mutant)
    return diagnose_updates(clean, trained(job), workers=WORKERS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each[-1])
def test_mutants_are_named(mutant: Mutant, data: Data) -> None:
    described, where, old, new, wanted = mutant
    best, *others = found(data, described, where, old, new)
    assert best.sentence.startswith(wanted), [best, *others]
    assert best.residual < 1e-3


@pytest.mark.parametrize("mutant", [MUTANTS[i] for i in (0, 14, 27, 35)], ids=lambda m: m[-1])
def test_mutants_are_named_in_float32(mutant: Mutant, data: Data) -> None:
    described, where, old, new, wanted = mutant
    best, *_ = found(data, described | {"dtype": "float32"}, where, old, new)
    assert best.sentence.startswith(wanted[:48])


@pytest.mark.parametrize("tensor", ["dense1.W", "dense2.W", "batchnorm1.gamma"])
def test_the_tensor_that_should_decay_or_not_is_named(tensor: str, data: Data) -> None:
    for described in (DECAY, ADAM | DECAY, ADAMW, L1):
        job = data.job(small(**described))
        (own,) = [t for t in job.network.all_tensors() if t.name == tensor]
        spans, span = job.updater.decaying, (own.start, own.stop)
        job.updater.decaying = sorted(set(spans) ^ {span})
        clean = data.job(small(**described))
        best, *others = diagnose_updates(clean, trained(job), workers=WORKERS)
        what = "is not decayed" if tensor.endswith("W") else "is decayed, and should not be"
        assert f"{tensor} {what}" in best.sentence, [described, best, others]


def test_a_right_run_has_no_name(data: Data) -> None:
    for optimizer in OPTIMIZERS:
        assert found(data, {"optimizer": optimizer, **DECAY, **L1, **CLIP, **COSINE}) == []


def test_what_nothing_explains_gets_no_name(data: Data) -> None:
    job = data.job(experiment(layers=PLAIN, **MOMENTUM))
    right = job.updater.rule
    noise = iter(range(1, 1000))

    class Odd:
        slots, behind = right.slots, right.behind
        weight_decay = right.weight_decay

        def update(self, arrays: Any, at: Any) -> None:
            right.update(arrays, at)
            arrays.new_w[:] += 1e-3 * ((next(noise) * (1 + abs(arrays.new_w)) * 997) % 1 - 0.5)

    job.updater.rule = Odd()  # type: ignore[assignment]
    clean = data.job(experiment(layers=PLAIN, **MOMENTUM))
    best, *others = diagnose_updates(clean, trained(job), workers=WORKERS)
    assert best.kind == "update", best
    assert not others
