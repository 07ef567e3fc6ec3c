"""Environment variables that are meant as settings, and set none."""

from collections.abc import Iterator, Mapping

from dptrain.errors import suggestion
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.experiment.synonyms import meant
from dptrain.invocation import PREFIX

_SETTINGS = {*Experiment.__struct_fields__, *Execution.__struct_fields__}
# Of the program and of verbs, which are no settings.
_OTHERS = {"cache", "command", "curves", "input", "json", "metric", "out", "resume", "trials"}


def misspelt(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable with the name of a setting in other words, or nearly so.

    A variable that no verb reads would else be left out without a word, other than a flag.
    """
    for name in sorted(environment):
        key = name.removeprefix(PREFIX).lower()
        if not name.startswith(PREFIX) or key in _SETTINGS | _OTHERS:
            continue
        hint = meant(key, "--")
        near = f"; {hint}" if hint else suggestion(key, _SETTINGS)
        if near:
            yield f"the environment variable {name} sets nothing{near}"
