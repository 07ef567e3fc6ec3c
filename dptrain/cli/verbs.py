"""The verbs of ``dptrain``, and the overview of them.

A verb's file is imported when the verb is used, so the overview repeats the first line of its help.
"""

from collections.abc import Sequence

from cyclopts import App, Group, Parameter
from cyclopts.config import Env

from dptrain import __version__
from dptrain.invocation import PREFIX
from dptrain.invocation import program as invoked_as

OVERVIEW = {
    "Train": {
        "train": "Train a network with several workers.",
        "tune": "Search for good settings of an experiment.",
        "worker": "Join a run that waits for workers started by hand.",
    },
    "Look": {
        "evaluate": "Print how good a run's weights are on every split.",
        "predict": "Print the class and the probabilities of new samples, or the network's "
        "outputs.",
        "plot": "Draw loss and accuracy of one or several runs in one figure.",
        "inspect": "Show a run's network, its experiment and how far it has come.",
        "compress": "Make a run's weights smaller, and compare size and accuracy before and after.",
        "convert": "Write trained weights in another format, chosen by the target's name.",
    },
    "Check": {
        "gradcheck": "Check gradients: of real workers, of one process, and by numbers.",
        "verify": "Re-execute a run in one process, and compare it with what it recorded.",
        "bisect": "Find the first step, and in it the layer and the shard, at which two runs "
        "differ.",
    },
    "Machine": {
        "scaling": "Measure how training gets faster with more workers, and recommend a number.",
        "doctor": "Check what training needs of this machine: cores, BLAS, memory, ports, "
        "versions.",
    },
}
VERBS = {verb: line for verbs in OVERVIEW.values() for verb, line in verbs.items()}


def program(arguments: Sequence[str]) -> App:
    """Return the command line for some arguments; without a verb among them it shows all."""
    seeks = VERBS.keys().isdisjoint(arguments)  # else the line would replace the verb's own help
    typed = invoked_as()
    epilogue = f"`{typed} VERB --help` tells more; `{typed} train` alone trains on MNIST."
    app = App(
        name="dptrain",
        help="Data-parallel training on plain CPUs: the same weights, to the last bit, for any "
        "number of workers.",
        help_epilogue=epilogue if seeks else None,
        group_commands=Group("Options", sort_key=len(OVERVIEW)),
        version=__version__,
        config=Env(PREFIX, command=False),
        help_format="markdown",
        default_parameter=Parameter(show_env_var=False, show_default=False, negative=()),
        result_action="return_value",
    )
    for place, (title, verbs) in enumerate(OVERVIEW.items()):
        group = Group(title, sort_key=place)
        for verb, line in verbs.items():
            app.command(
                f"dptrain.cli.{verb}:{verb}", name=verb, group=group, help=line if seeks else None
            )
    app.register_install_completion_command()
    return app
