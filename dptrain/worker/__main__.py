"""``python -m dptrain.worker``: a worker that a coordinator of this machine has launched."""

import sys

from dptrain.worker.startup import main

if __name__ == "__main__":
    sys.exit(main())
