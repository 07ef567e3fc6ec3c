"""PyTorch DistributedDataParallel over gloo: one of the processes that `ranks` starts, 1 thread."""

import os

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.peers.timing import options, timed
from benchmarks.peers.torch_job import Trainer, build

if __name__ == "__main__":
    asked = options()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    trainer = Trainer(asked.job, DistributedDataParallel(build(asked.job)), rank, world)
    found = timed(trainer.step, asked.steps)
    torch.distributed.barrier()  # the other rank is as far
    if rank == 0:
        print(found.line(), flush=True)
    # gloo's threads now and then abort a process that ends by itself
    os._exit(0)
