"""PyTorch DistributedDataParallel over gloo: 2 processes, one thread each."""

import os
import socket
import subprocess
import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.peers.jobs import JOBS, arguments, timed
from benchmarks.peers.torch_job import Trainer, build

WORLD = 2


def rank(number: int) -> None:
    """Train as one rank; rank 0 prints."""
    options = arguments()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=number, world_size=WORLD)
    job = JOBS[options.job]
    trainer = Trainer(job, DistributedDataParallel(build(job)), number, WORLD)
    line = timed(trainer.step, options.steps or job.steps)
    torch.distributed.destroy_process_group()
    if number == 0:
        print(line)


def launch() -> int:
    """Start the ranks; return the worst exit code."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.torch_ddp", *sys.argv[1:]],
            env=environment | {"DDP_RANK": str(number)},
        )
        for number in range(WORLD)
    ]
    return max(each.wait() for each in ranks)


if __name__ == "__main__":
    if "DDP_RANK" in os.environ:
        rank(int(os.environ["DDP_RANK"]))
    else:
        sys.exit(launch())
