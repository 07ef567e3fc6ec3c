"""``python -m dptrain``: the same as ``dptrain``."""

import sys

from dptrain.cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
