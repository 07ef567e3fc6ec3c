"""A worker process with a bug: ``python -m dptrain.gradcheck.zoo.worker NAME``."""

import sys

from dptrain.gradcheck.zoo.bug import Patches
from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.worker.launched import main

if __name__ == "__main__":
    BUGS[sys.argv[1]].patch(Patches())
    sys.exit(main())
