"""Networks that keep something from step to step, each in another way."""

import threading
from collections import deque
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tests.own.stateful import Base


class Averaging(Base):
    """Takes off a running average of the inputs; where it stands is up to the kinds below."""

    def __init__(self) -> None:
        super().__init__()
        self.begin(np.zeros(20))

    def begin(self, mean: Any) -> None:
        self.mean = mean

    @property
    def now(self) -> Any:
        return self.mean

    def update(self, mean: Any) -> None:
        self.mean = mean

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        return super().predict(x - self.now, train_flg)

    def gradient(self, x: Any, t: Any) -> Any:
        found = super().gradient(x, t)
        self.update(0.9 * self.now + 0.1 * x.mean(axis=0))
        return found


class InNewDict(Averaging):
    """In a dict that every step makes anew."""

    def begin(self, mean: Any) -> None:
        self.state = {"mean": mean}

    @property
    def now(self) -> Any:
        return self.state["mean"]

    def update(self, mean: Any) -> None:
        self.begin(mean)


class Statistics(NamedTuple):
    mean: Any
    steps: int


class InTuple(Averaging):
    """In a named tuple, inside of a list."""

    def begin(self, mean: Any) -> None:
        self.state = [Statistics(mean, 0)]

    @property
    def now(self) -> Any:
        return self.state[0].mean

    def update(self, mean: Any) -> None:
        self.state[0] = Statistics(mean, self.state[0].steps + 1)


class InDeque(Averaging):
    """In a deque of the last six."""

    def begin(self, mean: Any) -> None:
        self.state = deque([mean] * 6, maxlen=6)

    @property
    def now(self) -> Any:
        return sum(self.state) / 6

    def update(self, mean: Any) -> None:
        self.state.append(mean)


class Slot:
    """An object without a dict."""

    __slots__ = ("mean",)

    def __init__(self, mean: Any) -> None:
        self.mean = mean


class InSlots(Averaging):
    """In an object that every step makes anew, and that has no dict."""

    def begin(self, mean: Any) -> None:
        self.state = Slot(mean)

    @property
    def now(self) -> Any:
        return self.state.mean

    def update(self, mean: Any) -> None:
        self.begin(mean)


class Locked(Averaging):
    """Beside a lock, which cannot be copied."""

    def begin(self, mean: Any) -> None:
        super().begin(mean)
        self.lock = threading.Lock()


class Momentum(Base):
    """Sums up gradients by itself, in a dict that the first step makes."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: Any = None

    def gradient(self, x: Any, t: Any) -> Any:
        found = super().gradient(x, t)
        if self.sums is None:
            self.sums = {name: np.zeros_like(each) for name, each in found.items()}
        for name, each in found.items():
            self.sums[name] = 0.5 * self.sums[name] + each
        return dict(self.sums)


class MomentumInList(Momentum):
    """The same in a list."""

    def gradient(self, x: Any, t: Any) -> Any:
        found = Base.gradient(self, x, t)
        if self.sums is None:
            self.sums = [np.zeros_like(each) for each in found.values()]
        self.sums = [0.5 * a + b for a, b in zip(self.sums, found.values(), strict=True)]
        return dict(zip(found, self.sums, strict=True))


class Smoothed(Base):
    """Predicts with averages of the weights, after its first steps only."""

    AFTER = 3

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.average = {name: each.copy() for name, each in self.params.items()}

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        if train_flg or self.steps <= self.AFTER:
            return super().predict(x, train_flg)
        own, self.params = self.params, self.average
        found = super().predict(x)
        self.params = own
        return found

    def gradient(self, x: Any, t: Any) -> Any:
        found = super().gradient(x, t)
        self.steps += 1
        for name, each in self.params.items():
            self.average[name] = 0.5 * self.average[name] + 0.5 * each
        return found


class SmoothedAtOnce(Smoothed):
    """From the beginning, when biases and their averages are 0 still."""

    AFTER = -1


class Projected(Base):
    """Multiplies inputs by a matrix that the first call draws."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix: Any = None

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        if self.matrix is None:
            self.matrix = np.random.randn(20, 20) / 4
        return super().predict(x @ self.matrix, train_flg)


class Masked(Base):
    """Leaves out units that the first call draws."""

    def __init__(self) -> None:
        super().__init__()
        self.mask: Any = None

    def between(self, z: Any, train_flg: bool) -> Any:  # noqa: ARG002 - always
        if self.mask is None:
            self.mask = np.random.rand(z.shape[1]) > 0.4
        return z * self.mask

    def behind(self, d: Any, gradients: dict[str, Any]) -> Any:  # noqa: ARG002 - it has none
        return d * self.mask


class Clipping(Base):
    """Changes its weights in calls."""

    def gradient(self, x: Any, t: Any) -> Any:
        found = super().gradient(x, t)
        for each in self.params.values():
            np.clip(each, -0.2, 0.2, out=each)
        return found


class Decaying(Base):
    """Makes its weights smaller whenever it computes a loss."""

    def loss(self, x: Any, t: Any, train_flg: bool = False) -> Any:
        self.params["W1"] *= 0.9
        return super().loss(x, t, train_flg)


class Remembering(Base):
    """Computes something of its inputs only if they are not those that it has had before."""

    last: Any = None

    def same(self, x: Any) -> bool:
        return x is self.last

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        if self.last is None or not self.same(x):
            self.last, self.sines = x, np.sin(x)
        return super().predict(self.sines, train_flg)


class RememberingValues(Remembering):
    """The same by their values."""

    def same(self, x: Any) -> bool:
        return np.array_equal(x, self.last)


class Sines(Base):
    """What both of them compute."""

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        return super().predict(np.sin(x), train_flg)


STEPS = 0


class InModule(Base):
    """Counts outside of itself, and heeds that late."""

    def gradient(self, x: Any, t: Any) -> Any:
        global STEPS
        STEPS += 1
        return {n: g * (0.1 if STEPS > 90 else 1.0) for n, g in super().gradient(x, t).items()}


class InClass(Base):
    """Sums up in its class."""

    sums: ClassVar[dict[str, Any]] = {"seen": np.zeros(3)}

    def gradient(self, x: Any, t: Any) -> Any:
        self.sums["seen"] += 1
        return super().gradient(x, t)


class Beginning(Averaging):
    """Has an average only after some steps."""

    def begin(self, mean: Any) -> None:  # noqa: ARG002 - later
        self.steps, self.mean = 0, None

    @property
    def now(self) -> Any:
        return 0.0 if self.mean is None else self.mean

    def update(self, mean: Any) -> None:
        self.steps += 1
        if self.steps > 9:
            self.mean = mean


class Dropping(Base):
    """Drops units always."""

    def between(self, z: Any, train_flg: bool) -> Any:  # noqa: ARG002 - nobody tells it
        self.mask = (np.random.rand(*z.shape) > 0.5) * 2.0 if self.drops() else np.ones(z.shape)
        return z * self.mask

    def behind(self, d: Any, gradients: dict[str, Any]) -> Any:  # noqa: ARG002 - it has none
        return d * self.mask

    def drops(self) -> bool:
        return True


class DroppingByClass(Dropping):
    """In the mode that its class has."""

    training = True

    def drops(self) -> bool:
        return self.training


class DroppingByProperty(Dropping):
    """In the mode that a property tells."""

    _training = True

    @property
    def training(self) -> bool:
        return self._training

    @training.setter
    def training(self, value: bool) -> None:
        self._training = value

    def drops(self) -> bool:
        return self.training
