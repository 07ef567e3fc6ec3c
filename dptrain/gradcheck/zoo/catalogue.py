"""All deliberate bugs, by name."""

from dptrain.gradcheck.zoo import (
    coordinator,
    equivalents,
    images,
    layers,
    normalisation,
    notes,
    optimizers,
    races,
    replicas,
    rows,
    shard_sums,
    whole,
    wire,
)
from dptrain.gradcheck.zoo.bug import Bug

_SUBJECTS = (
    *(shard_sums.BUGS, rows.BUGS, replicas.BUGS, races.BUGS, wire.BUGS, coordinator.BUGS),
    *(layers.BUGS, images.BUGS, normalisation.BUGS, optimizers.BUGS, notes.BUGS),
    whole.BUGS,
    equivalents.BUGS,
)

BUGS: dict[str, Bug] = {bug.name: bug for bugs in _SUBJECTS for bug in bugs}
