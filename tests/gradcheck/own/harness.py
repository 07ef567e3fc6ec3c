"""What `gradcheck` says of a network by what this process does alone.

``python -m tests.gradcheck.own.harness SEED [SLIP]`` does one again and prints every comparison.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from threadpoolctl import threadpool_limits

from dptrain.data.prepared import prepare_arrays
from dptrain.errors import UsageError
from dptrain.experiment.own_code import MEMORY
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.alone import Alone
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison, worst_line
from dptrain.gradcheck.subject import Dtype, Subject, first_step, shrunk
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.own.object_origin import ObjectOrigin
from tests.gradcheck.own.draw import Drawn, network, rows
from tests.gradcheck.own.layers import Array
from tests.gradcheck.own.slips import SLIPS, planted

DTYPES: tuple[Dtype, ...] = ("float64", "float32")
# A bug must change some tensor by more than this part of its largest element, and by more than what
# rounding makes of a gradient that is 0, such as that of a bias before a batch norm.
VISIBLE, ROUNDING = 1e-6, 1e-13


class Prepared:
    """Data sets in a folder, prepared when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cache  # noqa: B019 - lives as long as the process
    def folders(self, inputs: str, targets: str) -> Mapping[Dtype, Path]:
        x, t = rows(inputs, targets)
        return {
            dtype: prepare_arrays(
                self.folder / f"{inputs}-{targets}-{dtype}",
                x_train=x, t_train=t, x_test=x[:1], t_test=t[:1], dtype=dtype,
            )
            for dtype in DTYPES
        }  # fmt: skip

    def subject(self, drawn: Drawn, seed: int) -> Subject:
        x, _ = rows(*drawn.data)
        origin = ObjectOrigin(drawn.given, drawn.params)
        described = build(Experiment, shrunk(drawn.settings, len(x)), "check")
        experiment = replace(described, dataset=MEMORY, model=origin.model)
        return Subject(experiment, origin, seed, self.folders(*drawn.data))


def compared(
    subject: Subject, points: Mapping[str, Array], some: Iterable[str]
) -> Iterator[Comparison]:
    """Yield what is compared of the first minibatch of some points, in both dtypes."""
    alone = Alone(subject, points, 1)
    with threadpool_limits(limits=1, user_api="blas"):
        for dtype in DTYPES:
            for point in some:
                found = (comparison for comparison, _ in alone.checked(dtype, point))
                _, first = next(groupby(found, key=lambda each: each.where))
                yield from first


class Judged(NamedTuple):
    """What was found of one network.

    Attributes:
        what: its seed, the slip that was planted, if any, and what it is made of.
        comparisons: all of them.
        refused: what was said instead, of a network that cannot be checked.
    """

    what: str
    comparisons: list[Comparison]
    refused: str = ""

    @property
    def verdict(self) -> Verdict:
        return Verdict.FAIL if self.refused else worst(c.verdict for c in self.comparisons)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.what}: {self.verdict.value} {self.refused}",
                *(
                    f"    {c.name} ({c.where}): {c.note} {worst_line(c) or ''}"
                    for c in self.comparisons
                    if c.verdict is self.verdict
                ),
            ]
        )


def clean(seed: int, prepared: Prepared) -> Judged:
    """Check the network of a seed at its `one_point`."""
    drawn = network(seed)
    subject = prepared.subject(drawn, seed)
    points = subject.points()
    found = compared(subject, points, [one_point(points, seed)])
    return Judged(f"{seed}; {drawn.traits}", list(found))


def one_point(points: Mapping[str, Array], seed: int) -> str:
    """Return at which of a check's points a seed's network is checked: more networks tell more."""
    return list(points)[seed % len(points)]


def with_slip(seed: int, prepared: Prepared, name: str = "") -> Judged | None:
    """Check the network of a seed with a slip; None if the seed's slip changes nothing there.

    Args:
        seed: of network and slip.
        prepared: data.
        name: of the slip; drawn unless given.
    """
    drawn = network(seed)
    slip = planted(drawn.network, seed, name)
    if slip is None:
        return None
    subject, what = prepared.subject(drawn, seed), f"{seed} {slip}; {drawn.traits}"
    try:
        points = subject.points()
    except UsageError as error:  # such as of what a call leaves to the next
        return Judged(what, [], str(error))
    right = prepared.subject(network(seed), seed)
    if not visible(subject, right, points):
        return None
    found: list[Comparison] = []
    for each in compared(subject, points, points):
        found.append(each)
        if each.verdict is Verdict.FAIL:  # which nothing can change any more
            break
    return Judged(what, found)


def visible(subject: Subject, right: Subject, points: Mapping[str, Array]) -> bool:
    """Return whether gradients differ from the right ones anywhere that is checked."""
    found, wanted = Local(subject.job()), Local(right.job())
    places = {t.name: slice(t.start, t.stop) for t in found.job.network.all_tensors()}
    tensors = wanted.job.network.all_tensors()  # the bug may keep more beside the weights
    for point, parameters in points.items():
        step = first_step(point)
        a = found.analytic(parameters, step).gradient
        same = np.concatenate([parameters[places[t.name]] for t in tensors])
        b = wanted.analytic(same, step).gradient
        for t in tensors:
            own = b[t.start : t.stop]
            least = max(VISIBLE * np.abs(own).max(), ROUNDING * np.abs(b).max())
            if t.trained and not np.abs(a[places[t.name]] - own).max() <= least:
                return True
    return False


def main(seed: int, slip: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepared = Prepared(Path(folder))
        found = with_slip(seed, prepared, slip) if slip else clean(seed, prepared)
        if found is None:
            print("this slip changes nothing there; slips:", ", ".join(SLIPS))  # noqa: T201
            return
        for each in found.comparisons:
            print(each.verdict.value, each.name, each.where, each.note, worst_line(each))  # noqa: T201
        print(found)  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
