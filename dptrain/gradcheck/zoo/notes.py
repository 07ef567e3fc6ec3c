"""Mistakes from the study notes that the project was created from."""

from dataclasses import replace
from typing import Any

from dptrain.experiment import job
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import Around, wrap
from dptrain.nn.cross_entropy import BoundSoftmaxCrossEntropy
from dptrain.nn.dense import Dense
from dptrain.nn.layer import Blocks, Site
from dptrain.nn.loss import BoundLoss
from dptrain.nn.numerical import STEP, NumericalPass
from dptrain.nn.passes import Pass

BOTH = ("shared", "star")


def _parentheses(patches: Patches) -> None:
    """``f(x + h) - f(x - h) / 2 * h``."""

    def difference(_: Around, self: NumericalPass, i: int) -> None:
        value = self._moved[i]
        self._moved[i] = value + STEP
        above = Pass.forward(_as_pass(self))
        self._moved[i] = value - STEP
        for shard, (high, low) in enumerate(zip(above, Pass.forward(_as_pass(self)), strict=True)):
            self.gradients[shard, i] = (high - low / 2 * STEP) / self.rows
        self._moved[i] = value

    wrap(patches, NumericalPass, "_difference", difference)


def _as_pass(found: NumericalPass) -> Pass:
    return found


def _inputs_again(patches: Patches) -> None:
    """``a2 = np.dot(x, W2) + b2``."""
    inputs: dict[int, Blocks] = {}

    def bind(original: Around, self: Dense, site: Site) -> Any:
        place = id(site.workspace)
        if len(site.place) == 1 and site.place[0] == 0:
            inputs[place] = site.inputs
        elif [x.shape for x in inputs.get(place, [])] == [x.shape for x in site.inputs]:
            site = replace(site, inputs=inputs[place], overwrites=False)
        return original(self, site)

    wrap(patches, Dense, "bind", bind)


def _single_row(patches: Patches) -> None:
    """A single label is made a row, but a single prediction is not: its classes count as rows."""

    def backward(original: Around, self: BoundSoftmaxCrossEntropy, rows: int) -> Blocks:
        found: Blocks = original(self, rows)
        for gradient in found:
            if gradient.shape[1] == 1:
                gradient /= gradient.shape[2]
        return found

    wrap(patches, BoundSoftmaxCrossEntropy, "backward", backward)


def _changed_when_built(patches: Patches) -> None:
    """The network is that of the settings before ``tanh`` was chosen for ``sigmoid``."""

    def network(original: Around, experiment: Any, *others: Any) -> Any:
        layers = [
            {"layer": "sigmoid"} if each == {"layer": "tanh"} else each
            for each in experiment.layers
        ]
        from msgspec.structs import replace as changed

        return original(changed(experiment, layers=layers), *others)

    wrap(patches, job, "build_network", network)


def _accuracy(patches: Patches) -> None:
    """``1 - accuracy``."""

    def correct(original: Around, self: BoundLoss) -> list[int]:
        sizes = [len(each) for t in self.targets for each in t]
        return [rows - found for rows, found in zip(sizes, original(self), strict=True)]

    wrap(patches, BoundLoss, "correct", correct)


BUGS = (
    Bug(
        "difference-parentheses",
        "difference-quotient",
        "A central difference without parentheses: f(x + h) - f(x - h) / 2 * h (the study notes).",
        _parentheses,
        place="all",
        habitat="numerical",
        exchange=BOTH,
    ),
    Bug(
        "inputs-again",
        "forward",
        "The second layer is fed with the inputs instead of the hidden activations (the study "
        "notes).",
        _inputs_again,
        place="all",
        habitat="same-width",
        exchange=BOTH,
    ),
    Bug(
        "single-row-reshaped",
        "wrong-divisor",
        "Of a single row the label is reshaped and the prediction is not, so that its classes "
        "count as rows (the study notes).",
        _single_row,
        place="all",
        exchange=BOTH,
    ),
    Bug(
        "changed-when-built",
        "network-not-rebuilt",
        "A setting is changed when the network has been built, and changes nothing (the study "
        "notes).",
        _changed_when_built,
        exchange=BOTH,
    ),
    Bug(
        "accuracy-inverted",
        "accuracy-inverted",
        "1 - accuracy is stored as the accuracy (the study notes).",
        _accuracy,
        exchange=BOTH,
    ),
)
