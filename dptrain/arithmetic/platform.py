"""What decides the last bits of a computation on this machine: versions, kernels, processor."""

import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_info

from dptrain.arithmetic.digest import fingerprint


class Arithmetic(NamedTuple):
    """How a process computes.

    Attributes:
        fingerprint: of `dptrain.arithmetic.digest.fingerprint`; equal where the bits are.
        numpy: its version.
        blas: library, version and kernels; empty where it cannot be asked.
        cpu: what the processor calls itself.
    """

    fingerprint: str
    numpy: str
    blas: str
    cpu: str

    def __str__(self) -> str:
        parts = [f"NumPy {self.numpy}", self.blas, self.cpu]
        return f"{', '.join(filter(None, parts))} (fingerprint {self.fingerprint})"


def arithmetic() -> Arithmetic:
    """Return how this process computes; the caller sees to it that BLAS has one thread."""
    mark = fingerprint()  # first: it loads the library that is then asked
    found = [
        f"{each['internal_api']} {each['version']} {each.get('architecture', '')}".strip()
        for each in threadpool_info()
        if each["user_api"] == "blas"
    ]
    return Arithmetic(mark, np.__version__, "; ".join(found), _processor())


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            name = next((line for line in lines if line.startswith("model name")), "")
    except OSError:
        name = ""
    return name.partition(":")[2].strip() or platform.processor() or platform.machine()
