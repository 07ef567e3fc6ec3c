"""Updates against the textbook: real runs agree, and every kind of wrong one is named."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict
from threadpoolctl import threadpool_info, threadpool_limits

from dptrain.data.dataset import open_dataset
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment
from dptrain.experiment.settle import settle
from dptrain.gradcheck.analytic import Analytic, Local
from dptrain.gradcheck.distributed import Step, Way, begin, engine, steps
from dptrain.gradcheck.updates.one_step import check_updates, diagnose_updates
from dptrain.gradcheck.updates.textbook import Textbook
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from dptrain.optim.links import Arrays, DecoupledDecay, Link, Moment
from dptrain.optim.rules import RULES, Adam, Momentum
from dptrain.own.origin import Named
from tests.exchange.build import OPTIMIZERS, WITH_WORKERS, Data
from tests.gradcheck.build import (
    PLAIN,
    Spoil,
    Spoilt,
    Wrong,
    experiment,
    untouched,
    weights,
    wrong_steps,
)
from tests.gradcheck.build import data as data
from tests.own.nets import EXAMPLE

WORKERS = 3
SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "constant"},
    {"schedule": "constant", "warmup": 2},
    {"schedule": "cosine", "warmup": 1},
    {"schedule": "cosine", "steps": 3},
    {"schedule": "step", "decay_every": 2},
    {"schedule": "exponential", "decay_every": 3, "warmup": 1},
]


@pytest.mark.parametrize("exchange", WITH_WORKERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_real_workers_update_by_the_book(
    optimizer: str, exchange: str, data: Data, workers: Program
) -> None:
    layers = {} if exchange == "shared" else {"layers": PLAIN}
    job, done = real_steps(data, exchange, workers, optimizer=optimizer, **layers)
    compared = check_updates(job, done, exchange, workers=WORKERS)
    assert [c.verdict for c in compared] == [Verdict.PASS] * 3 * (1 + len(RULES[optimizer]().slots))
    assert all(c.edge == "update" and c.compared == job.network.size for c in compared)
    assert diagnose_updates(job, done, workers=WORKERS) == []


def test_what_is_not_trained_has_no_state_in_the_star(
    data: Data, monkeypatch: pytest.MonkeyPatch, workers: Program
) -> None:
    monkeypatch.setattr(np, "empty_like", lambda array: np.full_like(array, 7))
    job, done = real_steps(data, "star", workers, optimizer="adam")
    monkeypatch.undo()
    found = check_updates(job, done, "star", workers=WORKERS)
    assert {c.verdict for c in found} == {Verdict.PASS}


def real_steps(
    data: Data, exchange: str, workers: Program, **described: Any
) -> tuple[Job, list[Step]]:
    """Return three steps of real workers, with every penalty."""
    experimental = experiment(
        lr=0.01, weight_decay=0.1, l1=0.01, clip_norm=0.5, dtype="float32", schedule="cosine",
        warmup=1, **described,
    )  # fmt: skip
    job = data.job(experimental)
    way, state = Way(exchange, WORKERS), begin(job, weights(job))
    with engine(job, data.folder(experimental), way, state, worker=workers) as found:
        return job, list(steps(found, 0, 3))


@settings(max_examples=40)
@given(
    st.sampled_from(OPTIMIZERS),
    st.sampled_from(SCHEDULES),
    st.sampled_from(["float32", "float64"]),
    st.fixed_dictionaries(
        {
            "clip_norm": st.sampled_from([None, 0.05, 1.0, 1e3]),
            "weight_decay": st.sampled_from([0.0, 1e-6, 0.1]),
            "l1": st.sampled_from([0.0, 0.01]),
            "lr": st.sampled_from([1e-6, 0.01, 3.0]),
            "freeze": st.sampled_from([None, ["dense1.W"], ["batchnorm1"]]),
            "seed": st.integers(0, 99),
        }
    ),
)
def test_nothing_is_found_in_right_updates(
    data: Data, optimizer: str, schedule: dict[str, Any], dtype: str, others: dict[str, Any]
) -> None:
    job = data.job(experiment(optimizer=optimizer, dtype=dtype) | schedule | others)
    done = wrong_steps(job, untouched, 6)
    assert {c.verdict for c in check_updates(job, done, "inline")} == {Verdict.PASS}


def test_a_later_part_of_a_run_begins_with_its_state(data: Data) -> None:
    for optimizer in OPTIMIZERS:
        job = data.job(experiment(optimizer=optimizer))
        done = wrong_steps(job, untouched, 6)[3:]
        slots = done[0].before.slots
        found = check_updates(job, done, "inline", slots=slots)
        assert {c.verdict for c in found} == {Verdict.PASS}, optimizer
        if optimizer != "sgd":
            assert check_updates(job, done, "inline", explain=False)[0].verdict is Verdict.FAIL


def test_small_deviations_show(data: Data) -> None:
    job = data.job(experiment(optimizer="adam"))

    def spoil(engine: Wrong) -> None:
        def nudge(step: int, old: Any, new: Any, slots: Any) -> None:
            new[7] = old[7] + (new[7] - old[7]) * (1 + 1e-9)

        engine.after_step = nudge

    failed = [
        c for c in check_updates(job, wrong_steps(job, spoil), "inline") if c.verdict == "fail"
    ]
    assert [(c.name, c.where) for c in failed] == [
        ("change of the weights = adam by the book", f"inline, step {k}") for k in (1, 2, 3)
    ]
    assert failed[0].worst is not None
    assert failed[0].worst[1].place == (1, 1)
    assert failed[0].note == "No known mistake explains it."
    (unexplained,) = diagnose_updates(job, wrong_steps(job, spoil))
    assert unexplained.sentence.endswith("should be: element 7, in dense1.W (1 of 120).")


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_a_network_of_the_users_own(exchange: str, data: Data, workers: Program) -> None:
    folder = data.folders["classes", "float64"]
    dataset = open_dataset(folder, validation=0, test=0, seed=0)
    sizes = {"input_size": 20, "hidden_size": 7, "output_size": 3, "weight_init_std": 0.3}
    described = Experiment(
        model=EXAMPLE, model_args=sizes, dtype="float64", optimizer="adamw", weight_decay=0.1,
        clip_norm=0.1, batch_size=13, shards=5,
    )  # fmt: skip
    settled = settle(described, 1, 3, len(dataset.train), dataset.digest)
    job = Job(settled, dataset, Named(EXAMPLE))
    state = begin(job, job.initial_parameters())
    with engine(job, folder, Way(exchange, WORKERS), state, worker=workers) as found:
        done = list(steps(found, 0, 3))
    compared = check_updates(job, done, exchange, workers=WORKERS)
    assert [c.verdict for c in compared] == [Verdict.PASS] * 9
    wrong = [s._replace(after=s.after._replace(parameters=s.before.parameters)) for s in done]
    failed = check_updates(job, wrong, exchange, workers=WORKERS)
    assert failed[0].note.startswith("The weights are unchanged in steps 0, 1, 2")


def schedule(change: Any) -> Spoil:
    """Spoil the learning rate of each step."""

    def spoil(engine: Wrong) -> None:
        right = engine.job.updater.schedule
        engine.job.updater.schedule = lambda step: change(right, step)  # type: ignore[assignment]

    return spoil


def rule(change: Any) -> Spoil:
    """Spoil what the rule is given."""

    def spoil(engine: Wrong) -> None:
        engine.job.updater.rule = Spoilt(engine.job.updater.rule, change)  # type: ignore[assignment]

    return spoil


def updater(**fields: Any) -> Spoil:
    """Spoil settings of the updater, given as functions of it."""

    def spoil(engine: Wrong) -> None:
        found = engine.job.updater
        for name, change in fields.items():
            setattr(found, name, change(found))

    return spoil


def clip(change: Any) -> Spoil:
    """Spoil the factor of clipping: it is made of the norm."""

    def spoil(engine: Wrong) -> None:
        found = engine.job.updater
        limit = found.clip_norm or 0.0
        setattr(found, "clip_factor", lambda squares: min(1, limit / change(sum(squares) ** 0.5)))  # noqa: B010 - a method

    return spoil


def after(change: Any) -> Spoil:
    """Spoil what stands after a step."""

    def spoil(engine: Wrong) -> None:
        engine.after_step = change

    return spoil


def gradient(change: Any) -> Spoil:
    """Spoil the gradient; no clipping comes behind it."""

    def spoil(engine: Wrong) -> None:
        engine.job.updater.clips = False
        engine.before_update = lambda step, g: change(engine.job, step, g)

    return spoil


def flipped(job: Job, step: int, g: Any) -> None:
    g[Textbook(job).trained] *= -1


def twice(right: Any, arrays: Arrays, at: Moment) -> None:
    again = arrays._replace(g=arrays.g.copy(), w=arrays.new_w, slots=arrays.new_slots)
    right.update(arrays, at)
    right.update(again, at)


def epsilon_inside(right: Any, arrays: Arrays, at: Moment) -> None:
    (v,) = arrays.slots
    v += arrays.g**2
    arrays.new_w[:] = arrays.w - at.lr * arrays.g / np.sqrt(v + right.epsilon)


class Decoupled(Adam, frozen=True, tag="decoupled"):
    def weight_decay(self, rate: float) -> Link:
        return DecoupledDecay(rate)


def forget(step: int, old: Any, new: Any, slots: Any) -> None:
    for slot in slots:
        slot[:] = 0


def forget_once(step: int, old: Any, new: Any, slots: Any) -> None:
    if step == 1:
        forget(step, old, new, slots)


def undo(step: int, old: Any, new: Any, slots: Any) -> None:
    new[:] = old


def undo_part(step: int, old: Any, new: Any, slots: Any) -> None:
    new[40:90] = old[40:90]


def tensor_norms(job: Any, step: int, g: Any) -> None:
    tensors = [t for t in job.network.all_tensors() if t.trained]
    norm = sum(np.linalg.norm(g[t.start : t.stop]) for t in tensors)
    for t in tensors:
        g[t.start : t.stop] *= min(1.0, job.experiment.clip_norm / norm)


def each_tensor(job: Any, step: int, g: Any) -> None:
    for t in job.network.all_tensors():
        if t.trained:
            own = g[t.start : t.stop]
            own *= min(1.0, job.experiment.clip_norm / np.linalg.norm(own))


def thaw(step: int, old: Any, new: Any, slots: Any) -> None:
    new[-5] += 1e-9  # the last but one of a weight, before three biases


def swapped(found: Any) -> Any:
    return [(low, high, 1 - rate) for low, high, rate in found.moving]


def all_spans(found: Any) -> Any:
    trained = sorted(span[:2] for span in found.moving)
    return [(0, trained[0][0]), (trained[-1][1], 10**6)]


MOMENTUM = {"optimizer": "momentum", "lr": 0.01}
ADAM = {"optimizer": "adam", "lr": 0.01}
DECAY = {"weight_decay": 0.01}
CLIP = {"clip_norm": 0.05}
CASES: list[tuple[str, dict[str, Any], Spoil]] = [
    ("gradient-sign", ADAM | DECAY, gradient(flipped)),
    ("ascends", DECAY, schedule(lambda lr, step: -lr(step))),
    ("update-applied-twice", MOMENTUM, rule(twice)),
    ("lr-multiplied", ADAM, schedule(lambda lr, step: WORKERS * lr(step))),
    ("lr-multiplied", MOMENTUM, schedule(lambda lr, step: WORKERS**2 * lr(step))),
    ("lr-divided", {}, schedule(lambda lr, step: lr(step) / WORKERS)),
    ("schedule-shifted", {"schedule": "cosine"}, schedule(lambda lr, step: lr(step + 1))),
    ("schedule-shifted", {"warmup": 4}, schedule(lambda lr, step: lr(step - 1))),
    ("weight-decay-multiplied", DECAY, updater(weight_decay=lambda u: WORKERS * u.weight_decay)),
    ("weight-decay-missing", DECAY | ADAM, updater(weight_decay=lambda _: 0.0)),
    ("decay-on-biases", DECAY, updater(decaying=all_spans)),
    ("decay-on-biases", {"l1": 0.01}, updater(decaying=all_spans)),
    ("weight-decay-coupling", DECAY | ADAM, updater(rule=lambda u: Decoupled(**asdict(u.rule)))),
    ("momentum-sign", MOMENTUM, updater(rule=lambda _: Momentum(momentum=-0.9))),
    ("state-lost", MOMENTUM, after(forget)),
    ("state-lost", {"optimizer": "adagrad"}, after(forget)),
    ("state-lost", ADAM, after(forget_once)),
    ("update-to-copy", ADAM, after(undo)),
    ("update-skipped", ADAM, after(undo_part)),
    ("adam-step", ADAM, rule(lambda r, a, at: r.update(a, at._replace(step=at.step + 1)))),
    ("adam-step", ADAM,
     rule(lambda r, a, at: r.update(a, at._replace(step=max(at.step - 1, 0))))),
    ("average-momentum-swapped", {}, updater(moving=swapped)),
    ("frozen-changed", {"freeze": ["dense2.W"]}, after(thaw)),
    ("clipped-by-tensor", CLIP | DECAY, gradient(each_tensor)),
    ("weight-decay-divided", DECAY, updater(weight_decay=lambda u: u.weight_decay / WORKERS)),
    ("epsilon-inside", {"optimizer": "adagrad", "epsilon": 1e-6}, rule(epsilon_inside)),
    ("not-clipped", CLIP, updater(clips=lambda _: False)),
    ("norm-reduced-again", CLIP | DECAY, clip(lambda norm: WORKERS * norm)),
    ("norm-reduced-again", CLIP | MOMENTUM, clip(lambda norm: norm / WORKERS)),
    ("norm-reduced-again", CLIP, clip(lambda norm: WORKERS**0.5 * norm)),
    ("norm-without-root", CLIP, clip(lambda norm: norm**2)),
    ("norms-summed", CLIP, gradient(tensor_norms)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "described", "spoil"), CASES)
def test_mistakes_are_named(kind: str, described: dict[str, Any], spoil: Spoil, data: Data) -> None:
    job = data.job(experiment(**described))
    done = wrong_steps(job, spoil)
    clean = data.job(experiment(**described))
    found = check_updates(clean, done, "inline", workers=WORKERS)
    best, *others = diagnose_updates(clean, done, workers=WORKERS)
    assert best.kind == kind, [best, *others][:4]
    assert best.residual < 1e-6
    notes = {c.note for c in found if c.verdict is Verdict.FAIL}
    assert len(notes) == 1
    assert notes.pop().startswith(best.sentence)


def test_clipping_before_the_reduce_is_named(data: Data) -> None:
    described = experiment(clip_norm=0.05, weight_decay=0.01)
    job = data.job(described)
    (right,) = wrong_steps(job, untouched, 1)
    reference = Local(job).reference(0)
    assert reference is not None
    trained = Textbook(job).trained
    shards = reference.gradient(right.before.parameters, 2.0**-53).shards * trained
    parts = [shards[0:2].sum(axis=0), shards[2:4].sum(axis=0), shards[4]]  # of 3 ranks

    def clipped(job: Job, step: int, g: Any) -> None:
        g[trained] = sum(p * min(1, 0.05 / np.linalg.norm(p)) for p in parts)[trained]

    done = wrong_steps(data.job(described), gradient(clipped), 1)
    (best,) = diagnose_updates(job, done, workers=WORKERS)
    assert (best.kind, best.residual) == ("clip-before-reduce", 0)
    given = diagnose_updates(job, done, workers=WORKERS, shard_gradients=lambda _: shards)
    assert given[0] == best


def test_gradients_are_computed_with_one_thread_as_ranks_do(data: Data) -> None:
    class Watched(Local):
        threads: set[int] = set()  # noqa: RUF012 - of this test alone

        def analytic(self, parameters: Any, step: int) -> Analytic:
            found = threadpool_info()
            self.threads.update(e["num_threads"] for e in found if e["user_api"] == "blas")
            return super().analytic(parameters, step)

    job = data.job(experiment())
    done = wrong_steps(job, untouched)
    with threadpool_limits(limits=2, user_api="blas"):
        check_updates(job, done, "inline", local=Watched(job))
    assert Watched.threads == {1}
