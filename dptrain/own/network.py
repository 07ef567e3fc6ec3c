"""A network of the user's own as a description: which tensors stand where in the flat vector."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.errors import UsageError
from dptrain.invocation import word
from dptrain.machine.process_wide import ProcessWide
from dptrain.nn.network import Layout
from dptrain.own.generators import DRAWING
from dptrain.own.model import OwnModel, predicted_classes
from dptrain.own.tensors import own_tensors

Shape = tuple[int, ...]


class SampleForm(NamedTuple):
    """In which form the network gets its rows.

    Attributes:
        inputs: shape of one sample.
        classes: of the data set; 0 for real targets.
        flat: whether targets come as class numbers or single values ``(n,)``, and not as one-hot
            rows ``(n, classes)`` or rows of values.
    """

    inputs: Shape
    classes: int
    flat: bool

    @property
    def one_hot(self) -> bool:
        """Whether targets come as one-hot rows."""
        return bool(self.classes) and not self.flat

    def rows(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return samples of the data set as the network gets them."""
        return x.reshape(len(x), *self.inputs)

    def goals(self, t: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return targets of the data set as the network gets them."""
        targets = np.eye(self.classes, dtype=dtype)[t] if self.one_hot else t
        return targets.reshape(-1) if self.flat else targets


class OwnNetwork(Layout):
    """The tensors of a network of the user's own, each a group of its own.

    Attributes:
        name: ``FILE.py:NAME``.
        form: of the rows.
        tensors: one for each key of ``params``, in their order, with the keys as names, and behind
            them those of the state; see `own_tensors`.
    """

    def __init__(
        self,
        name: str,
        shapes: Mapping[str, Shape],
        form: SampleForm,
        model: OwnModel | None = None,
        freeze: Sequence[str] = (),
        decayed: Sequence[str] | None = None,
    ) -> None:
        """Lay out.

        Args:
            name: of the network.
            shapes: of its tensors.
            form: of the rows.
            model: the network itself; None where only its weights are at hand.
            freeze: names of tensors that are not trained.
            decayed: names of those to which penalties apply; by default the weights.
        """
        self.name = name
        self.form = form
        self._model = model
        self._settings = freeze, decayed
        self.tensors = own_tensors(shapes, freeze, decayed)
        self.size = self.tensors[-1][-1].stop

    @property
    def input_shape(self) -> Shape:
        """The shape of one sample."""
        return self.form.inputs

    @property
    def model(self) -> OwnModel:
        """The network itself; raises `UsageError` where only its weights are at hand."""
        if self._model is None:
            raise UsageError(
                f"this needs the code of the network, {self.name}, which is imported only where "
                f"you name it yourself: --model {word(self.name)} on the command line, or "
                "load_run(..., network=TheNetwork(...)) in Python"
            )
        return self._model

    def with_code(self, model: OwnModel) -> "OwnNetwork":
        """Return the network with its code; its tensors are those of the code."""
        return OwnNetwork(self.name, model.shapes, self.form, model, *self._settings)

    @property
    def scores(self) -> bool:
        """Whether the fraction of correct rows can be told."""
        return bool(self.form.classes) and self.model.scores

    def initial_parameters(self, seed: int, dtype: np.dtype[Any]) -> NDArray[Any]:  # noqa: ARG002
        """Return the flat vector ``(size,)`` a run begins with: what the network holds now."""
        flat = np.empty(self.size, dtype)
        for view, tensor in zip(self.views(flat).values(), self.model.tensors(), strict=True):
            np.copyto(view, tensor, casting="same_kind")
        return flat

    def load(self, parameters: NDArray[Any]) -> None:
        """Put a flat vector ``(size,)`` into the network: weights and state."""
        self.model.load(list(self.views(parameters).values()))
        self.model.memory.restore()

    def outputs(
        self, parameters: NDArray[Any], samples: NDArray[Any], at_once: int
    ) -> NDArray[Any]:
        """Return what the network predicts for samples ``(n, *input_shape)``.

        Always of ``at_once`` rows together, the last of them repeated where there are fewer, as a
        matrix product of fewer rows may be another in the last digits.
        """
        self.load(parameters)
        seed = Seeds(0).evaluation
        with np.errstate(all="ignore"), DRAWING, ExitStack() as stack:
            stack.callback(np.random.set_state, np.random.get_state())
            parts = [
                self.model.outputs(_filled(samples[start : start + at_once], at_once), seed)
                for start in range(0, len(samples), at_once)
            ]
        return np.concatenate(parts)[: len(samples)]

    def answers(self, outputs: NDArray[Any]) -> NDArray[np.intp]:
        """Return the class number of each row of `outputs`.

        Raises:
            UsageError: ``predict`` returned neither scores nor numbers of classes that there are.
        """
        classes = self.form.classes
        found = predicted_classes(outputs, classes)
        if found is None or not np.isin(found, np.arange(classes)).all():
            raise self.model.no_answers(outputs, classes)
        return found


def _filled(samples: NDArray[Any], rows: int) -> NDArray[Any]:
    missing = rows - len(samples)
    return np.concatenate([samples, np.repeat(samples[-1:], missing, axis=0)])


def drawing_kept() -> AbstractContextManager[None]:
    """Leave NumPy's global generator as it was before: seeding it is not the caller's affair."""
    return _DRAWING.changed()


_DRAWING = ProcessWide(lambda: partial(np.random.set_state, np.random.get_state()))


class Seeds:
    """Seeds for NumPy's global generator: one for each shard of each step, all different.

    Attributes:
        evaluation: that of all evaluations.
    """

    def __init__(self, seed: int) -> None:
        base = int(generator(seed, Purpose.OWN_CODE, 1).integers(2**32))
        self._base = base
        self.evaluation = (base - 1) % 2**32

    def training(self, step: int, shards: int, shard: int) -> int:
        """Return the seed of a shard in a step."""
        return (self._base + step * shards + shard) % 2**32
