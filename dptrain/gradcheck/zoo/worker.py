"""A worker process with a bug: ``python -m dptrain.gradcheck.zoo.worker NAME``."""

import contextlib
import sys

from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.gradcheck.zoo.source import changed, given
from dptrain.worker.launched import main
from dptrain.worker.shell import Connection, WorkerShell

if __name__ == "__main__":
    with contextlib.ExitStack() as stack:

        def infected(connection: Connection) -> WorkerShell:
            """Let the bug loose as soon as it is known which rank this is."""
            stack.enter_context(given(changed(BUGS[sys.argv[1]].sources, connection.rank)))
            return WorkerShell(connection)

        code = main(infected)
    sys.exit(code)
