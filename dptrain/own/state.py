"""State of a network of the user's own beside ``params``: running averages, counters.

It is kept in the flat vector behind the weights, as tensors that are not trained: so it is part of
checkpoints, digests and everything else that has weights. Every call of the network begins with the
state before the step; what a shard's call of ``gradient`` leaves behind counts by the shard's rows,
and the sum over the shards is the state after the step.

A layer may make its arrays in the first call only, as the batch normalisation of "Deep Learning
from Scratch" does. The tensor `BEGUN` tells whether a step has been made, so that before it these
layers have nothing, as their constructor left them.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.own.places import MISSING, place_of

Array = NDArray[Any]
Shape = tuple[int, ...]

PREFIX = "state/"
BEGUN = f"{PREFIX}begun"
_ARRAY = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
_SCALARS: dict[str, type] = {"bool": bool, "int": int, "float": float}


class ValueForm(NamedTuple):
    """What a value of the state is, written such as ``float64[100]``, ``int64[]`` or ``int``.

    Attributes:
        kind: of a number of Python's own, ``"bool"``, ``"int"`` or ``"float"``; otherwise a dtype.
        shape: of an array; None for a number of Python's own.
    """

    kind: str
    shape: Shape | None

    def __str__(self) -> str:
        return self.kind if self.shape is None else f"{self.kind}[{','.join(map(str, self.shape))}]"

    @classmethod
    def parse(cls, text: str) -> "ValueForm":
        """Return the form that is written so; raises `UsageError` where it is none."""
        if text in _SCALARS:
            return cls(text, None)
        found = _ARRAY.fullmatch(text)
        if found is None:
            raise UsageError(f"model_state has {text!r}, which is no form such as 'float64[100]'")
        kind, axes = found.groups()
        return cls(kind, tuple(map(int, axes.split(","))) if axes else ())

    @classmethod
    def of(cls, value: object) -> "ValueForm | None":
        """Return the form of a value; None of what is neither a number nor an array of numbers."""
        if isinstance(value, np.ndarray | np.generic):
            return cls(value.dtype.name, value.shape) if value.dtype.kind in "fiub" else None
        kind = type(value).__name__
        return cls(kind, None) if kind in _SCALARS else None

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return self.kind in ("bool", "int") or self.kind.startswith(("int", "uint"))

    def made(self, tensor: Array) -> Any:
        """Return the value that a tensor of the flat vector stands for."""
        numbers = np.rint(tensor) if self.whole else tensor
        if self.shape is None:
            return _SCALARS[self.kind](numbers.item())
        found = numbers.reshape(self.shape).astype(self.kind)
        return found if self.shape else found[()]


class Memory:
    """The state of one network.

    Attributes:
        forms: by the path of each value.
        shapes: of its tensors in the flat vector, by name.
    """

    def __init__(self, subject: object, forms: Mapping[str, str], name: str) -> None:
        """Find the places.

        Args:
            subject: the network.
            forms: by the path of each value.
            name: of the network, for messages.

        Raises:
            UsageError: a place is not there.
        """
        self._name = name
        self.forms = {path: ValueForm.parse(text) for path, text in forms.items()}
        self._places = [place_of(subject, path) for path in forms]
        for each in self._places:
            if not each.can_be_made:
                raise UsageError(f"{name} has no {each.path}, where it kept its state before")
        self._begun = [each.begun() for each in self._places]
        self._first = [copy.deepcopy(each.get()) for each in self._begun]
        self._originals = [each.get() for each in self._places]
        # two places may begin with one array, and come to have others
        first = [id(each) for each in self._originals]
        self._twins = [
            first.index(id(each)) if isinstance(each, np.ndarray) else i
            for i, each in enumerate(self._originals)
        ]
        self._held: Sequence[Array] = ()
        self.shapes: dict[str, Shape] = {BEGUN: (1,)} if forms else {}
        self.shapes |= {f"{PREFIX}{path}": f.shape or (1,) for path, f in self.forms.items()}

    def initial(self) -> list[Array]:
        """Return the tensors of the state that the network has now; all 0 where it has none yet."""
        values = [each.get() for each in self._places]
        if all(ValueForm.of(v) == f for v, f in zip(values, self.forms.values(), strict=True)):
            return self.tensors()
        return [np.zeros(shape) for shape in self.shapes.values()]

    def hold(self, tensors: Sequence[Array]) -> None:
        """Keep what `restore` will put into the network; not copied."""
        self._held = tensors

    def restore(self) -> None:
        """Put the state that is held into the network."""
        if not self._held:
            return
        begun, *tensors = self._held
        for i, (each, form) in enumerate(zip(self._places, self.forms.values(), strict=True)):
            if begun[0] > 0.5:
                value = form.made(tensors[i])
            elif self._begun[i].keys != each.keys:
                self._begun[i].put(copy.deepcopy(self._first[i]))
                continue
            else:
                value = copy.deepcopy(self._first[i])
            now, twin = each.get(), self._twins[i]
            together = twin == i or np.array_equal(tensors[i], tensors[twin])
            if now is self._originals[i] and isinstance(now, np.ndarray) and together:
                now[...] = value  # others may hold the same array
            else:
                each.put(self._places[twin].get() if twin != i and together else value)

    def tensors(self) -> list[Array]:
        """Return the tensors of the state that the network has now; none where it has no state.

        Raises:
            UsageError: something has another form than before.
        """
        found: list[Array] = [np.ones(1)] if self.forms else []
        for each, form in zip(self._places, self.forms.values(), strict=True):
            value = each.get()
            if ValueForm.of(value) != form:
                now = "gone" if value is MISSING else ValueForm.of(value) or type(value).__name__
                raise UsageError(
                    f"{self._name}.{each.path} is {now}, and was {form} after the first step; what "
                    "a network keeps from step to step must keep its shape"
                )
            found.append(np.array(value, float).reshape(form.shape or (1,)))
        return found

    def exceeding(self, dtype: np.dtype[Any]) -> str:
        """Return the path of whole numbers that a dtype cannot hold; empty if there are none."""
        most = 2.0 ** (np.finfo(dtype).nmant + 1)
        for each, form in zip(self._places, self.forms.values(), strict=True):
            if form.whole and np.abs(np.array(each.get(), float)).max(initial=0) > most:
                return each.path
        return ""
