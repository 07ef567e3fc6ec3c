"""PyTorch DistributedDataParallel over gloo: one of the processes that `ranks` starts, 1 thread."""

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
    torch.distributed.destroy_process_group()
    if rank == 0:
        print(found.line())
