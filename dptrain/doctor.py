"""An examination of this machine: what training needs, and whether it is there."""

import os
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import zmq
from threadpoolctl import threadpool_info

from dptrain import __version__
from dptrain.arithmetic.digest import fingerprint
from dptrain.data.prepared import cache_folder
from dptrain.errors import ResourceError
from dptrain.exchange.barrier import suitable
from dptrain.exchange.memory import SharedMemory
from dptrain.launch.descriptors import eventfd_refusal
from dptrain.launch.local import pidfd_of
from dptrain.machine.cores import allowed_cores, can_pin, quotas, usable_cores
from dptrain.machine.memory import available_memory, left_in_groups
from dptrain.scaling.machine_warnings import busy_processes
from dptrain.scratch import socket_folder

LIBRARIES = ("numpy", "pyzmq", "msgpack", "msgspec", "safetensors", "matplotlib")


class Finding(NamedTuple):
    """One thing that was looked at; ``remedy`` is empty where all is well."""

    what: str
    value: str
    ok: bool = True
    remedy: str = ""


def examine() -> list[Finding]:
    """Return what was found, in the order in which a reader wants it."""
    return [
        _versions(),
        _libraries(),
        _cores(),
        _memory(),
        *_blas(),
        Finding("arithmetic", f"fingerprint {fingerprint()}"),
        _shared_memory(),
        _memfd(),
        _barrier(),
        _pidfd(),
        _ipc(),
        _tcp(),
        _cache(),
    ]


def _versions() -> Finding:
    python = platform.python_version()
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Finding("versions", f"dptrain {__version__}, Python {python}, {system}")


def _libraries() -> Finding:
    found = [f"{name} {version(name)}" for name in LIBRARIES]
    return Finding("libraries", ", ".join([*found, f"libzmq {zmq.zmq_version()}"]))


def _cores() -> Finding:
    usable = usable_cores()
    physical = psutil.cpu_count(logical=False) or allowed_cores()
    share = min(quotas(), default=None)
    limits = f", {allowed_cores()} allowed" if allowed_cores() != usable else ""
    limits += f", {share:g} by the control group" if share is not None else ""
    pins = "" if can_pin() else ", without --pin"
    load = f"load {psutil.getloadavg()[0]:.1f}"
    if busy := busy_processes():
        load += " (" + ", ".join(f"{name}, pid {pid}" for name, pid, _ in busy) + ")"
    return Finding("cores", f"{usable} usable{limits}, {physical} physical{pins}, {load}")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    value = f"{memory.available >> 20:,} MB free of {memory.total >> 20:,} MB"
    left = min(left_in_groups(), default=memory.available)
    if left < memory.available:
        value += f"; {max(0, left) >> 20:,} MB left in the control group"
    return Finding("memory", value)


def _blas() -> list[Finding]:
    np.ones((2, 2)) @ np.ones((2, 2))  # loads the library, so that it can be asked
    found = []
    for each in threadpool_info():
        if each["user_api"] != "blas":
            continue
        threads = each["num_threads"]
        name = f"{each['internal_api']} {each['version']}, {each.get('architecture', '?')} kernels"
        found.append(
            Finding(
                "BLAS",
                f"{name}, {threads} thread{'s' * (threads != 1)}",
                threads == 1,
                "" if threads == 1 else "set OPENBLAS_NUM_THREADS=1 before Python starts",
            )
        )
    return found or [Finding("BLAS", "none that can be asked about its threads")]


def _shared_memory() -> Finding:
    folder = Path("/dev", "shm")
    if not folder.is_dir():
        return Finding("shared memory", "no /dev/shm on this system")
    return Finding("shared memory", f"{shutil.disk_usage(folder).free >> 20:,} MB free")


def _memfd() -> Finding:
    memory = f"{available_memory() >> 20:,} MB can be shared"
    tried = SharedMemory()
    tried.close()
    if tried.nameless:
        return Finding("exchange", f"{memory}, without a name (memfd)")
    return Finding("exchange", f"{memory}, in an unlinked file of {tempfile.gettempdir()}")


def _barrier() -> Finding:
    kind = suitable()
    why = {
        "flags": "stores are seen in order on this processor",
        "events": "this processor may reorder stores, so the kernel orders them",
    }[kind]
    return Finding("barrier", f"{kind}: {why}")


def _pidfd() -> Finding:
    if (tried := pidfd_of(os.getpid())) < 0:
        return Finding("pidfd", "not here: deaths are noticed by polling")
    os.close(tried)
    return Finding("pidfd", "available")


def _ipc() -> Finding:
    remedy = "set TMPDIR to a folder with a short path, or use --transport tcp"
    try:
        folder = socket_folder("doctor", "coordinator")
    except ResourceError as error:
        return Finding("ipc", str(error), ok=False, remedy=remedy)
    try:
        return _bind("ipc", f"ipc://{folder}/coordinator", remedy)
    finally:
        shutil.rmtree(folder)


def _tcp() -> Finding:
    return _bind("tcp", "tcp://127.0.0.1:*", "check that the loopback interface is up")


def _bind(what: str, address: str, remedy: str) -> Finding:
    if why := eventfd_refusal():
        return Finding(what, f"cannot be used: {why}", ok=False, remedy="use --workers 1")
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    try:
        socket.bind(address)
        return Finding(what, "can be listened on")
    except zmq.ZMQError as error:
        return Finding(what, str(error), ok=False, remedy=remedy)
    finally:
        context.destroy(linger=0)


def _cache() -> Finding:
    folder = cache_folder()
    parent = next(each for each in (folder, *folder.parents) if each.exists())
    ok = os.access(parent, os.W_OK)
    size = shutil.disk_usage(parent).free >> 20
    remedy = "" if ok else "set DPTRAIN_CACHE to a folder that you can write to"
    return Finding("data cache", f"{folder}, {size:,} MB free", ok, remedy)
