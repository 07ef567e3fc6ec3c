"""The verbs of ``dptrain``, and how they are found."""

from cyclopts import App, Parameter
from cyclopts.config import Env

from dptrain import __version__

VERBS = (
    "train",
    "verify",
    "bisect",
    "evaluate",
    "predict",
    "compress",
    "convert",
    "plot",
    "inspect",
    "scaling",
    "gradcheck",
    "tune",
    "doctor",
    "worker",
)

app = App(
    name="dptrain",
    help="Data-parallel training on plain CPUs: the same weights, to the last bit, for any number "
    "of workers.",
    version=__version__,
    config=Env("DPTRAIN_", command=False),
    help_format="markdown",
    default_parameter=Parameter(show_env_var=False, show_default=False, negative=()),
    result_action="return_value",
)
for _verb in VERBS:
    app.command(f"dptrain.cli.{_verb}:{_verb}", name=_verb)
app.register_install_completion_command()
