"""Networks as users write them: no right one may FAIL, and with one slip nearly every one must.

``DPTRAIN_OWN_CHECKS=2000`` checks as many of both; `scripts/nightly` does. What is reported can be
done again alone: ``python -m tests.gradcheck.own.harness SEED [BUG]``.
"""

import os
from itertools import count, islice

import pytest

from dptrain.gradcheck.verdict import Verdict
from tests.gradcheck.own.harness import Judged, Prepared, clean, with_bug

CHECKS = int(os.environ.get("DPTRAIN_OWN_CHECKS", "100"))
UNSURE, SEEN = 0.05, 0.95


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("data"))


def told(found: list[Judged]) -> str:
    return "\n".join(["", *map(str, found)])


def test_no_right_network_fails_and_few_stay_open(prepared: Prepared) -> None:
    unsettled = [
        each
        for each in (clean(seed, prepared) for seed in range(CHECKS))
        if each.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)
    ]
    failed = [each for each in unsettled if each.verdict is Verdict.FAIL]
    assert not failed, told(failed)
    assert len(unsettled) <= UNSURE * CHECKS, told(unsettled)


def test_a_slip_fails(prepared: Prepared) -> None:
    seen = (with_bug(seed, prepared) for seed in count())
    judged = islice((each for each in seen if each is not None), CHECKS)
    missed = [each for each in judged if each.verdict is not Verdict.FAIL]
    assert len(missed) <= (1 - SEEN) * CHECKS, told(missed)
