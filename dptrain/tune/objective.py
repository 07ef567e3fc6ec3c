"""What a search is after: the measure that ranks trials, and the goals that end it."""

from collections.abc import Sequence
from typing import NamedTuple

from dptrain.errors import UsageError, suggestion
from dptrain.metrics.records import EpochRecord

MEASURES = tuple(
    name
    for name in EpochRecord.__struct_fields__
    if name.endswith("_accuracy") or name.endswith("_loss")
)
SPLITS = tuple(dict.fromkeys(name.partition("_")[0] for name in MEASURES))


class Metric(NamedTuple):
    """A measure of an evaluation.

    Attributes:
        name: of the record's field, such as ``validation_accuracy``.
    """

    name: str

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return self.name.endswith("accuracy")

    def merit(self, value: float) -> float:
        """Return the value so that more is better."""
        return value if self.higher else -value

    def of(self, record: EpochRecord) -> float | None:
        """Return the value in a record, if it was measured."""
        found: float | None = getattr(record, self.name)
        return found


class Goal(NamedTuple):
    """A bound on a measure.

    Attributes:
        metric: the measure.
        least: whether it must reach the bound from below; otherwise from above.
        bound: to be reached.
    """

    metric: Metric
    least: bool
    bound: float

    def met(self, record: EpochRecord) -> bool:
        """Return whether an evaluation reaches the bound."""
        value = self.metric.of(record)
        if value is None:
            return False
        return value >= self.bound if self.least else value <= self.bound


def metric_name(name: str) -> Metric:
    """Return the metric with a name; ``test`` is short for ``test_accuracy``.

    Raises:
        UsageError: there is no such measure.
    """
    full = f"{name}_accuracy" if f"{name}_accuracy" in MEASURES else name
    if full not in MEASURES:
        near = suggestion(name, [*SPLITS, *MEASURES]) or ";"
        raise UsageError(f"unknown measure {name!r}{near} choose from: {', '.join(MEASURES)}")
    return Metric(full)


def parse_goals(text: str) -> tuple[Goal, ...]:
    """Return the goals in text such as ``train>=.99,test>=.97``.

    Raises:
        UsageError: it cannot be understood.
    """
    return tuple(_goal(text, part.strip()) for part in text.split(","))


def _goal(text: str, part: str) -> Goal:
    for sign in (">=", "<="):
        name, found, bound = part.partition(sign)
        if not found:
            continue
        try:
            return Goal(metric_name(name.strip()), sign == ">=", float(bound))
        except ValueError as error:
            if isinstance(error, UsageError):
                raise UsageError(f"--until {text!r}: {error}") from None
    raise UsageError(
        f"--until {text!r}: {part!r} is not a goal; give goals such as "
        '"train>=.99,test>=.97", in quotes, since > has a meaning of its own in a shell'
    )


def available(splits: Sequence[str], classes: int) -> list[str]:
    """Return the measures that runs on a data set have, the one to choose by first.

    Unseen data before data trained on, rows held out to choose by before those of the test;
    accuracy before loss.

    Args:
        splits: those that have rows.
        classes: of the data set, 0 for regression.
    """
    order = [s for s in ("validation", "test", "train") if s in splits]
    kinds = ("accuracy", "loss") if classes else ("loss",)
    return [f"{split}_{kind}" for kind in kinds for split in order]


def check_measured(metrics: Sequence[Metric], measured: Sequence[str]) -> None:
    """Raise `UsageError` where runs will not have one of the metrics."""
    for metric in metrics:
        if metric.name not in measured:
            held = metric.name.startswith("validation")
            remedy = "give --validation 0.1, or choose" if held else "choose"
            raise UsageError(
                f"{metric.name} is not measured in this experiment; {remedy} from: "
                f"{', '.join(measured)}"
            )
