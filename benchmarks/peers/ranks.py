"""Start a module as 2 ranks, each on its own core, that find each other as PyTorch's do.

    python -m benchmarks.peers.ranks benchmarks.peers.torch_ddp --job small

It imports no PyTorch, so that the ranks begin at once.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.peers.cores import available, on_cores, threads

WORLD = 2


def launch(arguments: Sequence[str]) -> int:
    """Run ``python -m`` with these arguments as all ranks; return the worst exit code."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    cores = available()
    ranks = []
    for rank in range(WORLD):
        own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        own |= {"RANK": str(rank), "WORLD_SIZE": str(WORLD)}
        with on_cores(cores[rank % len(cores) :][:1]):
            command = [sys.executable, "-m", *arguments]
            ranks.append(subprocess.Popen(command, env=os.environ | threads(1) | own))
    return max(abs(each.wait()) for each in ranks)


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
