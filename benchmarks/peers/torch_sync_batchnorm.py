"""What PyTorch's synchronised batch normalisation says in processes on CPUs: one of the ranks.

python -m benchmarks.peers.ranks benchmarks.peers.torch_sync_batchnorm
"""

import os

import torch
from torch.nn.parallel import DistributedDataParallel

if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
    synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    try:
        DistributedDataParallel(synchronised)(torch.ones(3, 5))
    except (RuntimeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
    else:
        said = "runs on a CPU"
    if torch.distributed.get_rank() == 0:
        print(f"PyTorch {torch.__version__}: {said}", flush=True)
    os._exit(0)  # gloo's threads now and then abort a process that ends by itself
