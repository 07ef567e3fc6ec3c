"""What a trial came to."""

from typing import Any, Literal

import msgspec

from dptrain.errors import EXIT_NON_FINITE, EXIT_USAGE
from dptrain.tune.objective import Metric

# target: ended because it reached the goals. done: trained to its end.
Status = Literal["target", "done", "pruned", "failed"]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One finished trial: a line of ``trials.jsonl``.

    Attributes:
        number: from 1.
        parameters: by name.
        status: how it ended.
        value: the best of the search's metric, or that at which the goals were reached; None
            where it was never measured.
        epoch: of that value. For the best of the metric that is chosen unless another is given,
            the run's checkpoint ``best`` is of the same epoch.
        measures: all losses and accuracies at that epoch.
        epochs: trained in all.
        steps: trained in all.
        seconds: that it took, without what came before a resumption.
        digest: of the weights at the last evaluation.
        curve: epoch and value of the metric, for every evaluation.
        exit_code: as that of ``dptrain train``, where it failed.
        message: why it failed.
    """

    number: int
    parameters: dict[str, Any]
    status: Status
    value: float | None = None
    epoch: float | None = None
    measures: dict[str, float] = {}
    epochs: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    digest: str | None = None
    curve: list[tuple[float, float]] = []
    exit_code: int = 0
    message: str = ""

    @property
    def final(self) -> bool:
        """Whether it would end in the same way again."""
        return self.status != "failed" or self.exit_code in (EXIT_USAGE, EXIT_NON_FINITE)


def merits(curve: list[tuple[float, float]], metric: Metric) -> list[tuple[float, float]]:
    """Return a curve whose values are turned so that more is better."""
    return [(epoch, metric.merit(value)) for epoch, value in curve]


_ORDER: dict[Status, int] = {"target": 0, "done": 1, "pruned": 2, "failed": 3}


def ranked(trials: list[Trial], metric: Metric) -> list[Trial]:
    """Return the trials, the best first.

    The one that reached the goals comes before those trained to their ends, these before those
    that were given up.
    """

    def key(trial: Trial) -> tuple[float, ...]:
        order = _ORDER[trial.status] if trial.value is not None else len(_ORDER)
        merit = 0.0 if trial.value is None else metric.merit(trial.value)
        return order, -merit, trial.number

    return sorted(trials, key=key)


def twins(trials: list[Trial]) -> list[list[int]]:
    """Return the numbers of trials that differ in their parameters but not in their weights.

    Such a parameter decides nothing: either it has no bearing on this experiment, or it did not
    reach the network, which is how a search can seem to run and find nothing.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda each: each.number):
        if trial.digest is not None and trial.status == "done":
            groups.setdefault(trial.digest, []).append(trial)
    return [
        [each.number for each in group]
        for group in groups.values()
        if any(each.parameters != group[0].parameters for each in group)
    ]
