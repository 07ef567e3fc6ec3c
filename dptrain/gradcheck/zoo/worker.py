"""A worker process with a bug: ``python -m dptrain.gradcheck.zoo.worker NAME``."""

import sys

from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.gradcheck.zoo.source import changed, give
from dptrain.worker.shell import Connection, WorkerShell
from dptrain.worker.startup import main


def infected(connection: Connection) -> WorkerShell:
    """Let the bug loose, now that it is known which rank this is."""
    give(changed(BUGS[sys.argv[1]].sources, connection.rank))
    return WorkerShell(connection)


if __name__ == "__main__":
    sys.exit(main(infected))
