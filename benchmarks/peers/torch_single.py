"""PyTorch in one process, with 1 or 2 threads."""

import torch

from benchmarks.peers.timing import options, timed
from benchmarks.peers.torch_job import Trainer, build

if __name__ == "__main__":
    asked = options()
    torch.set_num_threads(asked.threads)
    print(timed(Trainer(asked.job, build(asked.job)).step, asked.steps).line())
