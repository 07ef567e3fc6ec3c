"""PyTorch in one process, with 1 or 2 threads."""

import torch

from benchmarks.peers.jobs import JOBS, arguments, timed
from benchmarks.peers.torch_job import Trainer, build

if __name__ == "__main__":
    options = arguments(threads=True)
    torch.set_num_threads(options.threads)
    job = JOBS[options.job]
    trainer = Trainer(job, build(job))
    print(timed(trainer.step, options.steps or job.steps))
