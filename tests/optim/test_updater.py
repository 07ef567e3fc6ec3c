"""The updater: clipping, weight decay, and chunks, around any rule."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dptrain.arithmetic.tree import tree_sum
from dptrain.optim.links import Decay
from dptrain.optim.rules import RULES, SGD, Adam, AdamW, Momentum
from dptrain.optim.schedules import Step
from dptrain.optim.updater import CHUNK, NORM_CHUNK, Piece, norm_chunks
from tests.optim.build import LR, random_steps, trained, updater

LARGE = 2 * CHUNK + 77


def norm(g: Any) -> float:
    """Return the Euclidean norm, rounded only at the end."""
    return math.sqrt(math.fsum(v * v for v in g.tolist()))


# Weight decay


@pytest.mark.parametrize("decaying", [[(0, 50)], [(10, 20), (30, 40)], [(0, 1), (1, 2)], []])
def test_weight_decay_spares_what_does_not_decay(decaying: list[tuple[int, int]]) -> None:
    w, gradients = random_steps(steps=1)
    mask = np.zeros(50)
    for low, high in decaying:
        mask[low:high] = 1
    found = trained(SGD(), w, gradients, weight_decay=0.1, decaying=decaying)[0]
    expected = w - LR * (gradients[0] + 0.1 * mask * w)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    found = trained(AdamW(), w, gradients, weight_decay=0.1, decaying=decaying)[0]
    free = trained(Adam(), w, gradients)[0]
    np.testing.assert_allclose(found, free - LR * 0.1 * mask * w, rtol=1e-14)
    spared = mask == 0
    assert found[spared].tobytes() == free[spared].tobytes()


@pytest.mark.parametrize("name", list(RULES))
def test_no_weight_decay_is_the_rule_alone(name: str) -> None:
    w, gradients = random_steps()
    rule = RULES[name]()
    free = trained(rule, w, gradients)[-1]
    zero = trained(rule, w, gradients, weight_decay=0.0, decaying=[(0, 50)])[-1]
    assert zero.tobytes() == free.tobytes()


def test_decoupled_decay_has_the_rate_of_the_step() -> None:
    w, _ = random_steps()
    schedule = Step(lr=0.5, rate=0.1, every=1)
    gradients = [np.zeros(50)] * 3
    settings: Any = {"weight_decay": 0.2, "decaying": [(0, 50)], "schedule": schedule}
    found = trained(AdamW(), w, gradients, **settings)
    shrunk = w
    for step, each in enumerate(found):
        shrunk = shrunk * (1 - 0.5 * 0.1**step * 0.2)
        np.testing.assert_allclose(each, shrunk, rtol=1e-14)


# L1 penalty


@pytest.mark.parametrize("decaying", [[(0, 50)], [(10, 20), (30, 40)], []])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_l1_adds_the_sign_of_the_weights_it_is_for(
    weight_decay: float, decaying: list[tuple[int, int]]
) -> None:
    w, gradients = random_steps(steps=1)
    w[[0, 11, 35]] = 0
    w[12] = -0.0
    mask = np.zeros(50)
    for low, high in decaying:
        mask[low:high] = 1
    settings: Any = {"l1": 0.3, "weight_decay": weight_decay, "decaying": decaying}
    found = trained(SGD(), w, gradients, **settings)[0]
    signs = (w > 0).astype(float) - (w < 0)
    expected = w - LR * (gradients[0] + mask * (0.3 * signs + weight_decay * w))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("name", list(RULES))
def test_l1_is_part_of_the_gradient_of_every_rule(name: str) -> None:
    """For AdamW too, whose weight decay is not."""
    w, (g, *_) = random_steps()
    rule = RULES[name]()
    settings: Any = {"weight_decay": 0.1, "decaying": [(0, 50)]}
    found = trained(rule, w, [g], l1=0.3, **settings)[0]
    expected = trained(rule, w, [g + 0.3 * np.sign(w)], **settings)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_l1_is_added_after_clipping() -> None:
    w, (g, *_) = random_steps()
    found = trained(SGD(), w, [g], l1=0.3, decaying=[(0, 50)], clip_norm=0.1)[0]
    np.testing.assert_allclose(found, w - LR * (g * 0.1 / norm(g) + 0.3 * np.sign(w)), rtol=1e-13)


def test_chunks_change_no_bit_of_l1() -> None:
    w, gradients = random_steps(LARGE, steps=2)
    w = w.astype(np.float32)
    settings: Any = {"l1": 0.01, "weight_decay": 0.01, "decaying": [(5, LARGE - 5)]}
    whole = trained(AdamW(), w, gradients, **settings)[-1]
    cut = trained(AdamW(), w, gradients, edges=(3, CHUNK - 1, CHUNK + 3), **settings)[-1]
    assert cut.tobytes() == whole.tobytes()


@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.lists(st.integers(0, 60), min_size=2, max_size=6, unique=True),
)
@example(10, 50, [10, 50])
@example(10, 50, [20, 30, 30, 40])
def test_pieces_cover_a_span_once_and_know_what_decays(a: int, b: int, cuts: list[int]) -> None:
    start, stop = min(a, b), max(a, b)
    cuts = sorted(cuts)[: len(cuts) // 2 * 2]
    decaying = list(zip(cuts[::2], cuts[1::2], strict=True))
    apply = updater(Momentum(), "float64", weight_decay=0.1, decaying=decaying)
    places = np.arange(60.0)
    slots = [places + 100]
    pieces = apply.bind(start, stop, places, places, slots, places, slots)
    assert [place for piece in pieces for place in piece.arrays.w] == list(range(start, stop))
    for piece in pieces:
        (slot,) = piece.arrays.slots
        (new_slot,) = piece.arrays.new_slots
        assert piece.arrays.w.tolist() == piece.arrays.g.tolist() == piece.arrays.new_w.tolist()
        assert (slot - 100).tolist() == (new_slot - 100).tolist() == piece.arrays.w.tolist()
        assert len(piece.arrays.scratch) == len(piece.arrays.w)
        for place in piece.arrays.w:
            assert _decays(piece) is any(low <= place < high for low, high in decaying)


def _decays(piece: Piece) -> bool:
    return any(isinstance(link, Decay) for link, _ in piece.chain)


# Chunks


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, LARGE])
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_chunks_change_no_bit(size: int, name: str) -> None:
    w, gradients = random_steps(size, steps=2)
    w = w.astype(np.float32)
    rule = RULES[name]()
    settings: Any = {"weight_decay": 0.01, "decaying": [(0, size)]}
    whole = trained(rule, w, gradients, **settings)[-1]
    apart = [
        trained(
            rule, w[a:b], [g[a:b] for g in gradients], weight_decay=0.01, decaying=[(0, b - a)]
        )[-1]
        for a, b in [(i, min(i + 10_007, size)) for i in range(0, size, 10_007)]
    ]
    assert np.concatenate(apart).tobytes() == whole.tobytes()
    edges = [e for e in (5, CHUNK - 1, CHUNK, CHUNK + 3) if e < size]
    cut = trained(rule, w, gradients, edges=edges, **settings)[-1]
    assert cut.tobytes() == whole.tobytes()


def test_pieces_are_no_longer_than_a_chunk() -> None:
    apply = updater(SGD(), "float32", weight_decay=0.1, decaying=[(5, LARGE - 5)])
    flat = np.zeros(LARGE, np.float32)
    pieces = apply.bind(0, LARGE, flat, flat, [], flat, [])
    assert [len(p.arrays.w) for p in pieces] == [5, CHUNK, CHUNK, 67, 5]
    assert [_decays(p) for p in pieces] == [False, True, True, True, False]


def test_a_step_allocates_no_arrays() -> None:
    size = 8 * CHUNK
    for name in RULES:
        rule = RULES[name]()
        settings: Any = {"decaying": [(0, size // 2)], "clip_norm": 1.0}
        settings |= {"weight_decay": 0.1, "l1": 0.1}
        apply = updater(rule, "float32", **settings)
        w, g = np.ones(size, np.float32), np.ones(size, np.float32)
        slots = [np.zeros_like(w) for _ in rule.slots]
        pieces = apply.bind(0, size, w, g, slots, w, slots)
        apply.update(0, pieces, apply.clip_factor(apply.squared_norms(g)))
        tracemalloc.start()
        try:
            apply.update(1, pieces, apply.clip_factor(apply.squared_norms(g)))
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # NumPy casts float32 to float64 through two buffers of fixed size; a chunk has 262 kB
        assert peak < 2 * 8 * np.getbufsize() + 10_000
        assert kept < 10_000  # the norms of the chunks are plain numbers in a list


# Clipping


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 50, LARGE])
def test_clipping_scales_by_the_norm_of_the_whole(size: int, dtype: str) -> None:
    random = np.random.default_rng(1)
    g = random.standard_normal(size).astype(dtype)
    apply = updater(SGD(), dtype, clip_norm=0.1)
    assert apply.clips
    factor = apply.clip_factor(apply.squared_norms(g))
    assert factor == pytest.approx(0.1 / norm(g), rel=1e-14)
    found = trained(SGD(), np.zeros(size, dtype), [g], clip_norm=0.1)[0]
    roundings = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found, -LR * (0.1 / norm(g)) * g.astype(float), rtol=roundings)


def test_a_gradient_within_the_norm_is_left_as_it_is() -> None:
    w, gradients = random_steps()
    for factor in (1 + 1e-9, 2, 1e300):
        limit = norm(gradients[0]) * factor
        found = trained(SGD(), w, gradients[:1], clip_norm=limit)[0]
        assert found.tobytes() == trained(SGD(), w, gradients[:1])[0].tobytes()


def test_without_a_limit_nothing_is_clipped() -> None:
    apply = updater(SGD(), "float64")
    assert not apply.clips
    assert apply.clip_factor([1e300, math.nan]) == 1


def test_what_is_clipped_is_the_gradient_without_the_decay() -> None:
    w, (g, *_) = random_steps()
    settings: Any = {"weight_decay": 0.5, "decaying": [(0, 50)], "clip_norm": 0.1}
    found = trained(SGD(), w, [g], **settings)[0]
    np.testing.assert_allclose(found, w - LR * (g * 0.1 / norm(g) + 0.5 * w), rtol=1e-13)


def test_moments_see_the_clipped_gradient() -> None:
    w, gradients = random_steps()
    found = trained(Momentum(), w, gradients, clip_norm=0.1)
    clipped = [g * 0.1 / norm(g) for g in gradients]
    np.testing.assert_allclose(found, trained(Momentum(), w, clipped), rtol=1e-13)


def test_norms_are_of_chunks_of_the_flat_vector_whoever_computes_them() -> None:
    random = np.random.default_rng(2)
    g = random.standard_normal(5 * CHUNK + 9).astype(np.float32)
    apply = updater(SGD(), "float32", clip_norm=1.0)
    whole = apply.squared_norms(g)
    assert len(whole) == norm_chunks(len(g)) == 5 * CHUNK // NORM_CHUNK + 1
    for cut in (0, 1, 2, 15, 16, 17, 40, 80):
        edge = cut * NORM_CHUNK
        assert apply.squared_norms(g[:edge]) + apply.squared_norms(g[edge:]) == whole
    exact = math.fsum(v * v for v in g.tolist())
    assert math.fsum(whole) == pytest.approx(exact, rel=1e-14)
    assert apply.clip_factor(whole) == 1 / math.sqrt(tree_sum(whole))


def test_large_float32_gradients_have_a_norm() -> None:
    """Their squares are beyond float32."""
    g = np.full(3, 1e30, np.float32)
    apply = updater(SGD(), "float32", clip_norm=1.0)
    assert apply.clip_factor(apply.squared_norms(g)) == pytest.approx(1e-30 / math.sqrt(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, CHUNK, LARGE - 1])
def test_a_bad_gradient_is_not_clipped_away(bad: float, place: int) -> None:
    """Else an infinity would become a step of 0 in all other places, and go on unnoticed."""
    w, (g,) = random_steps(LARGE, steps=1)
    g[place] = bad
    with np.errstate(invalid="ignore"):
        assert np.isnan(trained(SGD(), w, [g], clip_norm=1.0)[0]).all()


def test_a_zero_gradient_can_be_clipped() -> None:
    w, _ = random_steps()
    assert trained(SGD(), w, [np.zeros(50)], clip_norm=1.0)[0].tobytes() == w.tobytes()
    tiny = np.full(50, 5e-324)  # whose square is zero
    assert np.isfinite(trained(SGD(), w, [tiny], clip_norm=1.0)[0]).all()
