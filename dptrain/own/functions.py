"""Functions of the user's own as networks: ``loss_and_gradient(params, x, t)`` with parameters."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Params = dict[str, Array]
LossAndGradient = Callable[[Params, Array, Array], tuple[Any, Mapping[str, Any]]]


class Function:
    """A function ``loss_and_gradient(params, x, t)`` and its parameters, with the protocol."""

    def __init__(self, function: LossAndGradient, params: Params) -> None:
        self.function = function
        self.params = params

    @property
    def loss_and_gradient(self) -> Callable[..., tuple[Any, Mapping[str, Any]]]:
        """What returns the mean loss, and its gradient by parameter."""
        return partial(self.function, self.params)


class PredictingFunction(Function):
    """The same with a function ``predict(params, x)``."""

    def __init__(
        self, function: LossAndGradient, params: Params, prediction: Callable[[Params, Array], Any]
    ) -> None:
        super().__init__(function, params)
        self.prediction = prediction

    @property
    def predict(self) -> Callable[..., Any]:
        """What returns the outputs."""
        return partial(self.prediction, self.params)
