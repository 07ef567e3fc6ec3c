"""The verdicts, and what several of them come to."""

import enum
from collections.abc import Iterable

from dptrain.errors import EXIT_CHECK_FAILED, EXIT_ERROR, EXIT_INCONCLUSIVE


class Verdict(enum.StrEnum):
    """What a comparison says.

    PASS: everything compared lies within its tolerance. FAIL: something does not. KINK: the point
    lies at a kink, and the value between the slopes of both sides. INCONCLUSIVE: the oracle is
    less certain than was asked for, or nothing was compared. ERROR: the check itself broke down,
    which says nothing about what is checked; a difference that was found says more.
    """

    PASS = "pass"  # noqa: S105 - a verdict
    KINK = "kink"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    FAIL = "fail"

    @property
    def exit_code(self) -> int:
        """What a command that ends with this verdict returns to the shell."""
        return {
            Verdict.FAIL: EXIT_CHECK_FAILED,
            Verdict.INCONCLUSIVE: EXIT_INCONCLUSIVE,
            Verdict.ERROR: EXIT_ERROR,
        }.get(self, 0)


_SEVERITY = list(Verdict)  # the members stand in this order


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most severe of some verdicts; of none INCONCLUSIVE: nothing was shown."""
    found = list(verdicts)
    return max(found, key=_SEVERITY.index) if found else Verdict.INCONCLUSIVE
