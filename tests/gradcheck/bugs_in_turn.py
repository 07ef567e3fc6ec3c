"""A worker process for many runs one after the other, each with a bug of its own or none.

Importing NumPy takes longer than a run of three steps. Through its standard input come the name of
a bug and the orders of a run; when the run is over the process puts everything back and says so.
"""

import sys

from dptrain.gradcheck.zoo.bug import Patches
from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.gradcheck.zoo.seams import here
from dptrain.worker.launched import main

NONE = "-"
OVER = "<over>"

if __name__ == "__main__":
    while name := sys.stdin.buffer.readline().decode().strip():
        patches = Patches()
        if name != NONE:
            BUGS[name].patch(patches)
        main()
        patches.undo()
        here.rank = -1
        sys.stdout.write(f"{OVER}\n")
        sys.stdout.flush()
