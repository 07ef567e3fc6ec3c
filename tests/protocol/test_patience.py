"""Who is given up when, on clocks of the test's own."""

import pytest

from dptrain.protocol.patience import LONGEST_GAP, MULTIPLE, Patience, Silence


def silent(patience: Patience, since: float, until: float, rank: int = 0) -> int | None:
    """Let time go by without a word, a second at a time; return who is given up."""
    now = since
    while now < until:
        now = min(now + 1, until)
        if (lost := patience.lost([rank], now)) is not None:
            return lost
    return None


def test_silence_longer_than_the_timeout_is_given_up() -> None:
    patience = Patience(60, 0, 2, 0)
    patience.begin("steps", 0)
    assert silent(patience, 0, 60) is None
    assert patience.lost([1, 0], 60.1) == 1
    patience.heard(1, 60.2)
    assert patience.lost([1, 0], 60.2) == 0
    assert patience.lost([1], 60.2) is None
    assert patience.lost([], 1000) is None


@pytest.mark.parametrize(("expected", "allowed"), [(0, 60), (2, 60), (20, 200)])
def test_before_anything_is_measured_what_is_expected_counts(
    expected: float, allowed: float
) -> None:
    patience = Patience(60, expected, 1, 0)
    patience.begin("steps", 0)
    assert silent(patience, 0, allowed) is None
    assert patience.lost([0], allowed + 0.1) == 0


def test_what_took_20_s_may_take_200_s_but_only_the_same_kind_of_work() -> None:
    patience = Patience(30, 0, 2, 0)
    patience.begin("evaluation", 0)
    for now in range(21):
        assert patience.lost([0, 1], now) is None
    patience.took(patience.heard(0, 20))
    assert patience.longest == 20
    assert patience.allowed == 20 * MULTIPLE
    assert silent(patience, 20, 220) is None
    assert patience.lost([0], 220.5) == 0
    patience.begin("steps", 221)
    assert patience.allowed == 30
    patience.begin("evaluation", 222)
    assert patience.allowed == 20 * MULTIPLE
    patience.took(3)
    assert patience.longest == 20


def test_pieces_done_together_share_their_time() -> None:
    patience = Patience(1, 0, 1, 0)
    patience.begin("steps", 0)
    for now in range(1, 13):
        patience.lost([], now)
    patience.together(4)
    assert patience.longest == 3
    patience.lost([], 13)
    patience.together(1)
    assert patience.longest == 3


@pytest.mark.parametrize("gap", [LONGEST_GAP, 9, 1e6])
def test_time_in_which_nobody_listened_is_no_silence(gap: float) -> None:
    silence = Silence(2, 0)
    for now in (1, 2):
        silence.listen(now)
    silence.listen(2 + gap)
    assert silence.of(0) == 2 + LONGEST_GAP
    assert silence.heard(0, 3 + gap) == 3 + LONGEST_GAP
    assert (silence.of(0), silence.of(1)) == (0, 3 + LONGEST_GAP)


def test_one_late_look_is_never_enough_however_little_is_allowed() -> None:
    patience = Patience(0.4, 0, 1, 0)
    patience.begin("steps", 0)
    assert patience.lost([0], 1000) is None
    patience.heard(0, 1000.1)
    assert patience.lost([0], 1000.2) is None
    assert patience.lost([0], 2000) is None
    assert patience.lost([0], 2000.1) == 0
