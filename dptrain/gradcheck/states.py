"""Weights and optimizer states that must be equal, bit by bit."""

from dptrain.exchange.engine import State
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare


def equal_states(
    job: Job, name: str, edge: str, where: str, found: State, wanted: State
) -> list[Comparison]:
    """Compare weights and optimizer state, which must be equal."""
    tensors = job.network.all_tensors()
    compared = [
        compare(f"weights {name}", edge, where, tensors, found.parameters, wanted.parameters, 0.0)
    ]
    for slot, a, b in zip(job.updater.rule.slots, found.slots, wanted.slots, strict=True):
        compared.append(compare(f"{slot} {name}", edge, where, tensors, a, b, 0.0))
    return compared
