"""Where a run stands, beyond weights and optimizer state, and when it has trained long enough."""

import math
from typing import NamedTuple

from dptrain.checkpoint.checkpoint import Progress as Plain


class Ending(NamedTuple):
    """Where training with early stopping ended.

    Attributes:
        step: steps done.
        waited: evaluations without an improvement before that.
    """

    step: int
    waited: int


class RunProgress:
    """Kept in checkpoints.

    A score is better the higher it is. The best epoch is the first with the highest score; an
    improvement, which patience waits for, is a score that exceeds that of the last improvement by
    more than ``min_improvement``.

    Attributes:
        step: steps done.
        evaluated: the step of the last evaluation.
        best: the best score so far.
        best_step: when it was reached.
        ending: where training ended, if the weights of the best epoch have been restored. All else
            is then as it was after that epoch.
    """

    def __init__(self, step: int = 0) -> None:
        self.step = step
        self.evaluated = 0
        self.best = -math.inf
        self.best_step = 0
        self.ending: Ending | None = None
        self._improved = -math.inf
        self._waited = 0

    def judge(self, score: float, min_improvement: float) -> bool:
        """Take note of the score after the present step; return whether it is the best so far."""
        self.evaluated = self.step
        if score > self._improved + min_improvement:
            self._improved, self._waited = score, 0
        else:
            self._waited += 1
        if score <= self.best:
            return False
        self.best, self.best_step = score, self.step
        return True

    def is_exhausted(self, patience: int | None) -> bool:
        """Return whether no improvement has come for so many evaluations."""
        return patience is not None and self._waited >= patience

    def end(self) -> Ending:
        """Return what the ending is, if training ends now."""
        return Ending(self.step, self._waited)

    def has_ended(self, patience: int | None, total_steps: int) -> bool:
        """Return whether training ended before, with nothing to do for so many steps in all.

        A run that has ended goes on, from its best epoch, where patience has grown beyond what was
        waited, or where it had done all of its steps and is given more.
        """
        if self.ending is None:
            return False
        impatient = patience is not None and self.ending.waited >= patience
        return impatient or self.ending.step >= total_steps

    def plain(self) -> Plain:
        """Return what is kept in a checkpoint, beside its step."""
        return {
            "best": self.best if math.isfinite(self.best) else None,
            "best_step": self.best_step,
            "evaluated": self.evaluated,
            "improved": self._improved if math.isfinite(self._improved) else None,
            "waited": self._waited,
            "ended": self.ending.step if self.ending else None,
            "ended_waited": self.ending.waited if self.ending else None,
        }

    @classmethod
    def of(cls, step: int, plain: Plain) -> "RunProgress":
        """Return the progress that a checkpoint keeps; what it does not have begins anew."""
        found = cls(step)
        found.best = _number(plain.get("best"), -math.inf)
        found.best_step = int(_number(plain.get("best_step"), 0))
        found.evaluated = int(_number(plain.get("evaluated"), 0))
        found._improved = _number(plain.get("improved"), -math.inf)
        found._waited = int(_number(plain.get("waited"), 0))
        ended = plain.get("ended")
        if isinstance(ended, int):
            found.ending = Ending(ended, int(_number(plain.get("ended_waited"), 0)))
        return found


def _number(value: object, otherwise: float) -> float:
    return value if isinstance(value, int | float) else otherwise
