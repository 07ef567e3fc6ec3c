"""Updates against the book: the book against published formulas, and real runs against the book."""

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from dptrain.data.dataset import open_dataset
from dptrain.experiment.defaults import settle
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment
from dptrain.gradcheck.analytic import Analytic, Local
from dptrain.gradcheck.distributed import Step, Way, begin, engine, steps
from dptrain.gradcheck.updates.one_step import check_updates, diagnose_updates
from dptrain.gradcheck.updates.textbook import Textbook, recipe_of
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from dptrain.optim.rules import RULES
from dptrain.own.origin import Named
from tests.exchange.build import OPTIMIZERS, WITH_WORKERS, Data
from tests.gradcheck.build import PLAIN, Spoil, Wrong, experiment, untouched, weights, wrong_steps
from tests.gradcheck.build import data as data
from tests.own.nets import EXAMPLE

WORKERS = 3
CLIP = {"clip_norm": 0.05, "weight_decay": 0.01}


def published(name: str, e: Any, g: Decimal, t: int, state: dict[str, Decimal]) -> Decimal:
    """Return what the learning rate multiplies, for one element; the state is updated."""
    mu, rho, a, b, epsilon = (
        Decimal(e.coefficient(x)) for x in ("momentum", "decay", "beta1", "beta2", "epsilon")
    )
    m, v = state.get("m", Decimal(0)), state.get("v", Decimal(0))
    if name in ("momentum", "nesterov"):
        state["m"] = m = mu * m + g
        return m if name == "momentum" else g + mu * m
    if name == "lion":
        state["m"] = b * m + (1 - b) * g
        return Decimal(1).copy_sign(a * m + (1 - a) * g)
    if name in ("adagrad", "rmsprop"):
        state["v"] = v = v + g * g if name == "adagrad" else rho * v + (1 - rho) * g * g
        return g / (v.sqrt() + epsilon)
    if name in ("adam", "adamw"):
        state["m"], state["v"] = m, v = a * m + (1 - a) * g, b * v + (1 - b) * g * g
        return m / (1 - a**t) / ((v / (1 - b**t)).sqrt() + epsilon)
    return g


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_published_formulas_with_fifty_digits_lie_within_their_bounds(
    optimizer: str, dtype: str, data: Data
) -> None:
    job = data.job(experiment(optimizer=optimizer, weight_decay=0.1, l1=0.01, dtype=dtype, lr=0.01))
    book, random, state = Textbook(job), np.random.default_rng(5), dict[str, Decimal]()
    e, element, decoupled = job.experiment, 7, recipe_of(job).rule.decoupled  # of a weight
    with localcontext() as context:
        context.prec = 50
        for step in range(5):
            w, g = random.standard_normal((2, job.network.size)).astype(dtype).astype(float)
            found = book.step(step, w, g).change[element]
            x, y = Decimal(w[element]), Decimal(g[element])
            decay, rate = Decimal(e.weight_decay) * x, Decimal(e.lr)
            y += Decimal(e.l1).copy_sign(x) + (0 if decoupled else decay)
            along = published(optimizer, e, y, step + 1, state)
            exact = -rate * (along + (decay if decoupled else 0))
            assert found.error is not None
            assert abs(Decimal(float(found.value)) - exact) <= Decimal(float(found.error))
            assert found.error <= 100 * np.finfo(dtype).eps * (abs(w[element]) + 1)


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
    st.fixed_dictionaries(
        {
            "optimizer": st.sampled_from(OPTIMIZERS),
            "schedule": st.sampled_from(["constant", "cosine", "step", "exponential"]),
            "warmup": st.sampled_from([0, 2]),
            "dtype": st.sampled_from(["float32", "float64"]),
            "clip_norm": st.sampled_from([None, 0.05, 1.0, 1e3]),
            "weight_decay": st.sampled_from([0.0, 1e-6, 0.1]),
            "l1": st.sampled_from([0.0, 0.01]),
            "lr": st.sampled_from([1e-6, 0.01, 3.0]),
            "freeze": st.sampled_from([None, ["dense1.W"], ["batchnorm1"]]),
            "seed": st.integers(0, 99),
        }
    ),
)
def test_nothing_is_found_in_right_updates(data: Data, described: dict[str, Any]) -> None:
    job = data.job(experiment(**described))
    done = wrong_steps(job, untouched, 6)
    assert {c.verdict for c in check_updates(job, done, "inline")} == {Verdict.PASS}


def test_a_later_part_of_a_run_begins_with_its_state(data: Data) -> None:
    for optimizer in OPTIMIZERS:
        job = data.job(experiment(optimizer=optimizer))
        done = wrong_steps(job, untouched, 6)[3:]
        found = check_updates(job, done, "inline", slots=done[0].before.slots)
        assert {c.verdict for c in found} == {Verdict.PASS}, optimizer
        if optimizer != "sgd":
            assert check_updates(job, done, "inline", explain=False)[0].verdict is Verdict.FAIL


def test_small_deviations_show(data: Data) -> None:
    job = data.job(experiment(optimizer="adam"))

    def spoil(engine: Wrong) -> None:
        def nudge(step: int, old: Any, new: Any, slots: Any) -> None:
            new[7] = old[7] + (new[7] - old[7]) * (1 + 1e-9)

        engine.after_step = nudge

    done = wrong_steps(job, spoil)
    failed = [c for c in check_updates(job, done, "inline") if c.verdict == "fail"]
    assert [(c.name, c.where) for c in failed] == [
        ("change of the weights = adam by the book", f"inline, step {k}") for k in (1, 2, 3)
    ]
    assert failed[0].worst is not None
    assert failed[0].worst[1].place == (1, 1)
    assert failed[0].note == "No known mistake explains it."
    (unexplained,) = diagnose_updates(job, done)
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


def clipped_as(change: Any) -> Spoil:
    """Let a gradient be clipped in another way: a function changes it in place."""

    def spoil(engine: Wrong) -> None:
        engine.job.updater.clips = False
        engine.before_update = lambda _, g: change(engine.job, g)

    return spoil


def by_tensor(job: Job, g: Any) -> None:
    for t in job.network.all_tensors():
        if t.trained:
            g[t.start : t.stop] *= min(1.0, 0.05 / np.linalg.norm(g[t.start : t.stop]))


def by_sum_of_norms(job: Job, g: Any) -> None:
    spans = [slice(t.start, t.stop) for t in job.network.all_tensors() if t.trained]
    norm = sum(np.linalg.norm(g[own]) for own in spans)
    for own in spans:
        g[own] *= min(1.0, 0.05 / norm)


def by_rank(job: Job, g: Any) -> None:
    reference, trained = Local(job).reference(0), recipe_of(job).trained
    assert reference is not None
    shards = reference.gradient(weights(job), 2.0**-53).shards * trained
    parts = [shards[0:2].sum(axis=0), shards[2:4].sum(axis=0), shards[4]]  # of 3 ranks
    g[trained] = sum(p * min(1, 0.05 / np.linalg.norm(p)) for p in parts)[trained]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("clipped-by-tensor", by_tensor),
        ("norms-summed", by_sum_of_norms),
        ("clip-before-reduce", by_rank),
    ],
)
def test_other_ways_of_clipping_are_named(kind: str, change: Any, data: Data) -> None:
    job, clean = (data.job(experiment(**CLIP)) for _ in range(2))
    done = wrong_steps(job, clipped_as(change), 1)
    best, *_ = diagnose_updates(clean, done, workers=WORKERS)
    assert (best.kind, best.residual) == (kind, 0)
    notes = {c.note for c in check_updates(clean, done, "inline", workers=WORKERS)}
    assert any(note.startswith(best.sentence) for note in notes)


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
