"""The user's object as passes use it: weights in, losses and gradients out, everything checked.

The protocol is that of the networks in "Deep Learning from Scratch": ``params``, a dict of arrays;
``gradient(x, t)``, a dict of their gradients averaged over the rows; ``loss(x, t)``, likewise a
mean; and, if there are any, ``predict(x)`` and ``accuracy(x, t)``. An object may have
``loss_and_gradient(x, t)`` in place of ``gradient``, which saves it a forward pass.

Every call begins alike, whoever makes it and whatever was called before: with the weights and the
state (`dptrain.own.state`) last loaded, with generators seeded for it, and in the mode that is
meant (`dptrain.own.training_mode`).
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dptrain.errors import UsageError
from dptrain.own.copying import copy_of
from dptrain.own.exceptions import own_code_error
from dptrain.own.functions import Params
from dptrain.own.generators import DRAWING, Generators
from dptrain.own.state import PREFIX, Memory
from dptrain.own.training_mode import Switch

Array = NDArray[Any]


class OwnModel:
    """An object with the protocol.

    Attributes:
        subject: the object.
        name: of its class or function, for messages.
        params: its arrays, by name. They are written to in place, because its layers hold them.
        predicts: whether it has ``predict``.
        scores: whether the fraction of rows that it classifies correctly can be told.
        switch: between training and inference.
        memory: of its state.
    """

    def __init__(self, subject: object, name: str, state: Mapping[str, str] | None = None) -> None:
        """Check the protocol.

        Args:
            subject: the object.
            name: of its class or function.
            state: the form of each value of its state, by path; None where that is not known.

        Raises:
            UsageError: something is missing or of no use.
        """
        self.subject: Any = subject
        self.name = name
        self.params = _params_of(subject, name)
        self._loaded: Sequence[Array] = ()
        self._called = False
        self.memory = Memory(subject, state or {}, name)
        self._generators = Generators(subject)
        both = _method(subject, "loss_and_gradient")
        self._both = both
        self._gradient = _method(subject, "gradient")
        self._loss = _method(subject, "loss")
        self._predict = _method(subject, "predict")
        self._accuracy = _method(subject, "accuracy")
        missing = [] if both or self._gradient else ["gradient(x, t)"]
        missing += [] if self._loss or both else ["loss(x, t)"]
        if missing:
            raise UsageError(
                f"{name} has no {' and no '.join(missing)}; a network of your own needs .params, "
                f".gradient(x, t) and .loss(x, t){'' if self._gradient else _nearly(subject)}"
            )
        methods = {"loss_and_gradient": both, "gradient": self._gradient, "loss": self._loss}
        methods |= {"predict": self._predict, "accuracy": self._accuracy}
        self.switch = Switch(subject, methods)
        self.predicts = self._predict is not None
        self.scores = self.predicts or self._accuracy is not None

    def with_state(self, state: Mapping[str, str]) -> "OwnModel":
        """Return the same network, of which the state is known."""
        return OwnModel(self.subject, self.name, state)

    def copied(self) -> "OwnModel | None":
        """Return a copy of the network, with nothing loaded; None where it cannot be copied."""
        forms = {path: str(form) for path, form in self.memory.forms.items()}
        try:
            return OwnModel(copy_of(self.subject), self.name, forms)
        except Exception:  # noqa: BLE001 - objects may refuse to be copied in their own ways
            return None

    def traits(self) -> dict[str, str]:
        """Return what was found beside the weights, for people: ``mode`` and ``state``, if any."""
        found, paths = {}, list(self.memory.forms)
        some = paths if len(paths) <= 4 else [*paths[:3], f"{len(paths) - 3} more"]
        if str(self.switch):
            found["mode"] = f"training or inference by {self.switch}"
        if paths:
            found["state"] = f"{', '.join(some)}: kept with the weights"
        return found

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of weights and state, by name."""
        return {name: array.shape for name, array in self.params.items()} | self.memory.shapes

    def tensors(self) -> list[Array]:
        """Return copies of the weights, and the state, as the network has them now."""
        return [*(array.copy() for array in self.params.values()), *self.memory.initial()]

    def state(self) -> list[Array]:
        """Return the tensors of the state that the last call has left."""
        return self.memory.tensors()

    def load(self, tensors: Sequence[Array]) -> None:
        """Put weights into the arrays of ``params``, in their order; keep the state behind them.

        Nothing else is copied: weights, in case that a call has changed them, and state are read
        again at the beginning of every call.

        Raises:
            UsageError: the object has exchanged an array since it was made.
        """
        now = self.subject.params
        weights = tensors[: len(self.params)]
        self.memory.hold(tensors[len(self.params) :])
        self._loaded, self._called = weights, True
        self._put_weights()
        for name, array in self.params.items():
            if now.get(name) is not array:
                raise UsageError(
                    f"{self.name} has put another array into params[{name!r}]; leave the weights "
                    "to dptrain, or write into the array that is there"
                )

    def _put_weights(self) -> None:
        """Put those last loaded into ``params``, where a call has been made since."""
        if not self._called:
            return
        for array, value in zip(self.params.values(), self._loaded, strict=False):
            np.copyto(array, value, casting="same_kind")
        self._called = False

    def changed(self) -> list[str]:
        """Return the names of weights that calls have changed since they were put into place."""
        pairs = zip(self.params.items(), self._loaded, strict=False)
        return [n for (n, a), v in pairs if not np.array_equal(a, v.astype(a.dtype))]

    def loss_and_gradient(self, x: Array, t: Array, seed: int) -> tuple[float, Mapping[str, Array]]:
        """Return the mean loss of some rows, and its gradients, to be used before the next call.

        Both are those of training.

        Args:
            x: rows ``(n, *input_shape)``.
            t: their targets.
            seed: of NumPy's global generator, before each call of the object.
        """
        self._put_weights()
        if self._both is not None:
            found = self._call(self._both, "loss_and_gradient", x, t, seed=seed, training=True)
            value, gradients = self._pair(found)
            return self._number("loss_and_gradient", value), self._gradients(gradients)
        assert self._gradient is not None
        # before, as gradients may stand in memory that it uses
        loss = self.loss(x, t, seed, training=True)
        gradients = self._call(self._gradient, "gradient", x, t, seed=seed, training=True)
        return loss, self._gradients(gradients)

    def loss(self, x: Array, t: Array, seed: int, *, training: bool = False) -> float:
        """Return the mean loss of some rows, in training or else in inference."""
        self._put_weights()
        if self._loss is not None:
            found = self._call(self._loss, "loss", x, t, seed=seed, training=training)
            return self._number("loss", found)
        assert self._both is not None
        found = self._call(self._both, "loss_and_gradient", x, t, seed=seed, training=training)
        return self._number("loss_and_gradient", self._pair(found)[0])

    def with_arrays(self, dtype: DTypeLike) -> "OwnModel":
        """Return a copy of the object in which every array of ``params`` has another dtype.

        That is so wherever the object holds it; a view or a copy stays as it is. May raise
        whatever copying the object raises.
        """
        arrays: dict[int, Any] = {id(a): a.astype(dtype) for a in self.params.values()}
        return copy.deepcopy(self, arrays)

    def complex_loss(self, x: Array, t: Array, seed: int) -> complex:
        """Return the mean loss of some rows in training, with complex ``params``: `with_arrays`.

        The network's code was written for real numbers and may raise anything.
        """
        self._put_weights()
        with self._prepared(seed, training=True):
            if self._loss is not None:
                told = self.switch.of("loss", training=True)
                return complex(np.asarray(self._loss(x, t, **told)).item())
            assert self._both is not None
            told = self.switch.of("loss_and_gradient", training=True)
            return complex(np.asarray(self._both(x, t, **told)[0]).item())

    def outputs(self, x: Array, seed: int) -> Array:
        """Return what ``predict`` returns, an array with a first axis as long as that of ``x``."""
        if self._predict is None:
            raise UsageError(f"{self.name} has no predict(x)")
        self._put_weights()
        found = np.asarray(self._call(self._predict, "predict", x, seed=seed))
        if found.ndim == 0 or len(found) != len(x):
            raise UsageError(
                f"{self.name}.predict(x) returned {_told(found)} for {len(x)} rows; it must "
                "return something for each row"
            )
        return found

    def correct(self, x: Array, t: Array, labels: Array, classes: int, seed: int) -> int:
        """Return how many rows are given their own class.

        By ``predict``, where it returns scores ``(n, classes)`` or class numbers; else by
        ``accuracy``. Not the other way round: an ``accuracy`` that works in batches of its own may
        leave out the last rows.
        """
        if self._predict is not None:
            y = self.outputs(x, seed)
            found = predicted_classes(y, classes)
            if found is not None:
                return int(np.count_nonzero(found == labels))
            if self._accuracy is None:
                raise self.no_answers(y, classes)
        assert self._accuracy is not None
        self._put_weights()
        found = self._call(self._accuracy, "accuracy", x, t, seed=seed)
        return round(self._number("accuracy", found) * len(x))

    def no_answers(self, outputs: Array, classes: int) -> UsageError:
        """Return the error that tells that ``predict`` returned neither scores nor classes."""
        return UsageError(
            f"{self.name}.predict(x) returned {_told(outputs)} for {len(outputs)} rows of "
            f"{classes} classes; it must return scores ({len(outputs)}, {classes}) or class numbers"
        )

    @contextmanager
    def _prepared(self, seed: int, *, training: bool) -> Iterator[None]:
        """Put everything that a call depends on into its place."""
        with DRAWING:
            np.random.seed(seed)  # the global generator: such networks draw from it
            self.memory.restore()
            self._called = True
            with self._generators.seeded(seed), self.switch.set(training=training):
                yield

    def _call(
        self,
        method: Callable[..., Any],
        what: str,
        *arguments: Array,
        seed: int,
        training: bool = False,
    ) -> Any:
        try:
            with self._prepared(seed, training=training):
                return method(*arguments, **self.switch.of(what, training=training))
        except (Exception, SystemExit) as error:  # sys.exit() would end the run without a word
            told = ", ".join(
                f"{name}: {_told(each)}" for name, each in zip("xt", arguments, strict=False)
            )
            raise own_code_error(f"{self.name}.{what}({told})", error) from error

    def _pair(self, found: Any) -> tuple[Any, Any]:
        if not isinstance(found, tuple) or len(found) != 2:
            raise UsageError(
                f"{self.name}.loss_and_gradient(x, t) returned {_told(found)}; it must return "
                "a loss and a dict of gradients"
            )
        return found

    def _number(self, what: str, value: Any) -> float:
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping):
            raise UsageError(
                f"{self.name}.{what}(x, t) returned a loss and a dict; that is what "
                "loss_and_gradient(x, t) is for: call it so, and let loss(x, t) return the loss "
                "alone, or leave it out"
            )
        found = np.asarray(value)
        if found.size != 1 or found.dtype.kind not in "fiu":
            raise UsageError(
                f"{self.name}.{what}(x, t) returned {_told(found)}; it must return one number, the "
                "mean over the rows"
            )
        return float(found.item())

    def _gradients(self, gradients: Any) -> Mapping[str, Array]:
        if not isinstance(gradients, Mapping):
            raise UsageError(
                f"{self.name}.gradient(x, t) returned {_told(gradients)}; it must return a dict "
                "with the keys of params"
            )
        if gradients.keys() != self.params.keys():
            lacks = [repr(key) for key in self.params if key not in gradients]
            more = [repr(key) for key in gradients if key not in self.params]
            parts = [f"has no gradient of {', '.join(lacks)}"] * bool(lacks)
            parts += [f"has {', '.join(more)}, which params has not"] * bool(more)
            raise UsageError(f"{self.name}.gradient(x, t) {' and '.join(parts)}")
        return {name: self._gradient_of(name, gradients[name]) for name in self.params}

    def _gradient_of(self, name: str, value: Any) -> Array:
        found = np.asarray(value)
        wanted = self.params[name].shape
        if found.shape != wanted or found.dtype.kind not in "fiu":
            raise UsageError(
                f"{self.name}.gradient(x, t)[{name!r}] is {_told(found)}, but params[{name!r}] has "
                f"shape {wanted}"
            )
        return found


def predicted_classes(outputs: Array, classes: int) -> NDArray[np.intp] | None:
    """Return the class number of each row ``(n,)`` by what a network's ``predict`` returned.

    That is scores ``(n, classes)`` or the class numbers themselves; None where it is neither.
    """
    if outputs.shape[1:] == (classes,):
        found: NDArray[np.intp] = outputs.argmax(axis=1)
        return found
    if outputs.ndim == 1 and outputs.dtype.kind in "iu":
        return outputs.astype(np.intp)
    return None


def _method(subject: object, name: str) -> Callable[..., Any] | None:
    found = getattr(subject, name, None)
    return found if callable(found) else None


def _nearly(subject: object) -> str:
    """Return how a network that is written in another form fits in, as the end of a sentence."""
    if _method(subject, "numerical_gradient"):
        return (
            "; numerical_gradient computes the loss twice for every weight: to train with it all "
            "the same, add gradient = numerical_gradient"
        )
    if _method(subject, "backward"):
        return "; let gradient(x, t) call backward, and return a dict of what it has computed"
    if _method(subject, "loss"):
        return (
            "; if loss(x, t) returns both the loss and a dict of gradients, let "
            "loss_and_gradient(x, t) return them"
        )
    return ""


def _params_of(subject: object, name: str) -> Params:
    params = getattr(subject, "params", None)
    if not isinstance(params, dict) or not params:
        raise UsageError(
            f"{name}.params is {_told(params)}; a network of your own needs a dict of arrays there"
        )
    for key, array in params.items():
        if not isinstance(key, str) or not key or key.startswith(("optimizer/", PREFIX)):
            raise UsageError(f"{name}.params has the key {key!r}; give it a name, such as 'W1'")
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.size:
            raise UsageError(
                f"{name}.params[{key!r}] is {_told(array)}; it must be an array of real numbers"
            )
        if not array.flags.writeable:
            raise UsageError(f"{name}.params[{key!r}] cannot be written to; give a copy")
        if not np.isfinite(array).all():
            raise UsageError(f"{name}.params[{key!r}] holds an infinity or NaN")
    _check_apart(params, name)
    return dict(params)


def _check_apart(params: Params, name: str) -> None:
    keys = list(params)
    for i, key in enumerate(keys):
        for other in keys[:i]:
            if np.may_share_memory(params[key], params[other]):
                raise UsageError(
                    f"{name}.params[{other!r}] and params[{key!r}] are the same memory; keep only "
                    "one of them in params"
                )


def _told(value: object) -> str:
    """Return what a value is, in few words."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"{type(value).__name__} {str(value)[:40]}" if value is not None else "None"
