"""The four verdicts, and what several of them come to."""

import enum
from collections.abc import Iterable


class Verdict(enum.StrEnum):
    """What a comparison says.

    PASS: everything compared lies within its tolerance. FAIL: something does not. KINK: the point
    lies at a kink, and the value between the slopes of both sides. INCONCLUSIVE: the oracle is
    less certain than was asked for, or nothing was compared.
    """

    PASS = "pass"  # noqa: S105 - a verdict
    KINK = "kink"
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"

    @property
    def exit_code(self) -> int:
        """What a command that ends with this verdict returns to the shell."""
        return {Verdict.FAIL: 3, Verdict.INCONCLUSIVE: 4}.get(self, 0)


_SEVERITY = list(Verdict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most severe of some verdicts; of none INCONCLUSIVE: nothing was shown."""
    found = list(verdicts)
    return max(found, key=_SEVERITY.index) if found else Verdict.INCONCLUSIVE
