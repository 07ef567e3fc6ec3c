"""What to type: how the user has started dptrain, for messages that tell a command.

Attributes:
    PREFIX: of environment variables that stand for flags.
    COMMAND: the environment variable with which a script says what the user has typed.
"""

import os
import shlex
import shutil
import sys
from pathlib import Path

PREFIX = "DPTRAIN_"
COMMAND = "DPTRAIN_COMMAND"


def program() -> str:
    """Return what stands for ``dptrain`` on this user's command line."""
    if typed := os.environ.get(COMMAND):
        return shlex.quote(typed)
    here = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path()
    found = shutil.which("dptrain")
    if here.name == "dptrain" and len(here.parts) > 1:
        if found is None or Path(found).resolve() != here.resolve():
            return shlex.quote(sys.argv[0])
    elif found is None and sys.executable:  # a script or notebook, or python -m
        return f"{shlex.quote(sys.executable)} -m dptrain"
    return "dptrain"


def word(what: object) -> str:
    """Return a path, or what else a command names, as one word for the shell."""
    return shlex.quote(str(what))


def install(extra: str) -> str:
    """Return the command that installs an extra of dptrain, for the Python that runs this."""
    return f"{shlex.quote(sys.executable)} -m pip install 'dptrain[{extra}]'"
