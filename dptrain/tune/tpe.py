"""The tree-structured Parzen estimator, by way of optuna.

J. Bergstra et al., "Algorithms for hyper-parameter optimization" (NIPS 2011). For every trial a
study is made anew from the trials before it and asked once, with a sampler whose seed is keyed by
the trial. So nothing is carried along, and a search that is resumed goes on as if it had not been
interrupted.
"""

from collections.abc import Sequence
from typing import Any, Literal

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.errors import UsageError
from dptrain.invocation import install
from dptrain.tune.methods import Random, Values
from dptrain.tune.space import SearchParameter, ValueChoices
from dptrain.tune.trial import Trial

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.trial import FrozenTrial, TrialState, create_trial
except ImportError:
    raise UsageError(
        f"--method tpe needs optuna, which is not installed: {install('tune')}; or use --method "
        "random"
    ) from None

# How often the estimator may propose what has been tried already, before chance decides.
ATTEMPTS = 16


class Tpe:
    """The tree-structured Parzen estimator; after some random trials it looks near the good ones.

    A trial that was pruned or has failed counts as worse than all that were trained to their end.
    """

    def __init__(self, space: Sequence[SearchParameter], seed: int, *, higher: bool) -> None:
        self._space = space
        self._seed = seed
        self._direction: Literal["maximize", "minimize"] = "maximize" if higher else "minimize"
        self._distributions = {each.name: _distribution(each) for each in space}
        self._random = Random(space, seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def parameters(
        self, number: int, known: Sequence[Trial], earlier: Sequence[Values]
    ) -> dict[str, Any]:
        """Return what the estimator proposes, or a random draw where it only repeats itself."""
        for attempt in range(ATTEMPTS):
            found = self._proposal(number, attempt, known, earlier)
            if found not in earlier:
                return found
        return self._random.parameters(number, known, earlier)

    def _proposal(
        self, number: int, attempt: int, known: Sequence[Trial], earlier: Sequence[Values]
    ) -> dict[str, Any]:
        random = generator(self._seed, Purpose.SEARCH, number, attempt)
        sampler = optuna.samplers.TPESampler(seed=int(random.integers(2**32)))
        study = optuna.create_study(sampler=sampler, direction=self._direction)
        numbers = {trial.number for trial in known}
        running = [v for i, v in enumerate(earlier, 1) if i not in numbers]
        study.add_trials([self._told(trial) for trial in known])
        study.add_trials([self._trial(values, TrialState.RUNNING) for values in running])
        asked = study.ask(self._distributions).params
        return {each.name: _value(each, asked[each.name]) for each in self._space}

    def _told(self, trial: Trial) -> FrozenTrial:
        if trial.status in ("done", "target") and trial.value is not None:
            return self._trial(trial.parameters, TrialState.COMPLETE, value=trial.value)
        curve = {i: value for i, (_, value) in enumerate(trial.curve)}
        reached = curve if trial.status == "pruned" else {}
        return self._trial(trial.parameters, TrialState.PRUNED, intermediate_values=reached)

    def _trial(self, values: Values, state: TrialState, **more: Any) -> FrozenTrial:
        return create_trial(
            state=state,
            params={each.name: _internal(each, values[each.name]) for each in self._space},
            distributions=self._distributions,
            **more,
        )


def _distribution(parameter: SearchParameter) -> BaseDistribution:
    """Return the distribution: over the places of a list, not its values, whatever these are."""
    space = parameter.space
    if not isinstance(space, ValueChoices):
        return FloatDistribution(space.low, space.high, log=space.log)
    places = len(space.values)
    return (
        IntDistribution(0, places - 1) if space.ordered else CategoricalDistribution(range(places))
    )


def _internal(parameter: SearchParameter, value: Any) -> Any:
    space = parameter.space
    return space.values.index(value) if isinstance(space, ValueChoices) else value


def _value(parameter: SearchParameter, internal: Any) -> Any:
    space = parameter.space
    return space.values[internal] if isinstance(space, ValueChoices) else space.rounded(internal)
