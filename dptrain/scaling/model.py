"""A simple model of what a step costs: compute, meetings, and the update of a slice.

    T(w) = c · shards on the busiest core + u · bytes of its slices + l · meetings + s · switches

``c`` seconds a shard, ``u`` seconds a byte, ``l`` seconds a meeting of all ranks. Where ranks
outnumber the cores, those of one core take turns, and each turn costs ``s`` seconds more.
"""

from collections.abc import Sequence
from typing import NamedTuple

from dptrain.exchange.engine import StepSplit


class Load(NamedTuple):
    """What a number of workers has to do in a step.

    Attributes:
        shards: computed one after the other by the busiest core.
        bytes: of parameters reduced and updated by it.
        meetings: of all ranks; 0 in one process.
        switches: between ranks that share a core.
    """

    shards: int
    bytes: float
    meetings: int
    switches: int


def load_of(
    workers: int, *, shards: int, parameter_bytes: int, cores: int, meetings: int, shared: bool
) -> Load:
    """Return the load of a number of workers.

    Args:
        workers: ranks, 1 for one process.
        shards: of the minibatch.
        parameter_bytes: of the flat vector.
        cores: that the ranks can use.
        meetings: in a step.
        shared: whether each rank updates its slice; otherwise one process updates everything.
    """
    turns = -(-workers // cores)
    most = min(shards, turns * -(-shards // workers))
    slices = turns / workers if shared else 1.0
    met = meetings if workers > 1 else 0
    return Load(most, parameter_bytes * slices, met, met * (turns - 1))


class CostModel(NamedTuple):
    """The costs, in seconds.

    Attributes:
        per_shard: gathering and both passes.
        per_byte: reducing and updating, for a byte of parameters.
        per_meeting: waiting and exchange, for a meeting of all ranks.
        per_switch: for a rank that takes its turn on a shared core.
    """

    per_shard: float
    per_byte: float
    per_meeting: float
    per_switch: float

    def seconds(self, load: Load) -> float:
        """Return the predicted time of a step."""
        return (
            self.per_shard * load.shards
            + self.per_byte * load.bytes
            + self.per_meeting * load.meetings
            + self.per_switch * load.switches
        )


def fit_costs(measured: Sequence[tuple[Load, StepSplit]]) -> CostModel:
    """Fit each cost by least squares to the part of the steps that it explains.

    Ranks that share a core compute while others do, so their parts tell nothing of the first three
    costs; what their steps take more than these costs is put down to the switches.
    """
    free = [each for each in measured if not each[0].switches] or measured
    model = CostModel(
        _slope([(load.shards, split.compute) for load, split in free]),
        _slope([(load.bytes, split.update) for load, split in free]),
        _slope([(load.meetings, split.wait + split.exchange) for load, split in free]),
        0.0,
    )
    rest = [(load.switches, sum(split) - model.seconds(load)) for load, split in measured]
    return model._replace(per_switch=_slope(rest))


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope through the origin with the least relative squared errors.

    Relative, so that the slowest measurement does not count for all the others.
    """
    ratios = [y / x for x, y in points if x > 0 and y > 0]
    if not ratios:
        return 0.0
    # minimises Σ (1 - a x / y)²
    return sum(1 / r for r in ratios) / sum(1 / r**2 for r in ratios)
