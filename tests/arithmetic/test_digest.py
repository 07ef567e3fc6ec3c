"""Names for weights, and for the arithmetic of a machine."""

import hashlib
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from dptrain.arithmetic.digest import digest, fingerprint


def elsewhere(**environment: str) -> str:
    """Return the fingerprint of another process."""
    code = "from dptrain.arithmetic.digest import fingerprint; print(fingerprint())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def blas_is_not(architecture: str) -> bool:
    """Whether BLAS is an OpenBLAS that now uses the kernels of another architecture."""
    found = [i["architecture"] for i in threadpool_info() if i.get("internal_api") == "openblas"]
    return bool(found) and architecture not in found


def test_a_digest_is_the_sha256_of_the_numbers_bytes() -> None:
    numbers = [0.1, -2.0, 3e-9]
    for dtype, code in (("<f4", "<3f"), ("<f8", "<3d")):
        expected = hashlib.sha256(struct.pack(code, *numbers)).hexdigest()
        assert digest(np.array(numbers, dtype)) == expected


def test_a_digest_follows_the_elements_not_the_memory() -> None:
    wide = np.arange(20.0)
    assert digest(wide[::2]) == digest(wide[::2].copy())
    assert digest(wide[::-1]) != digest(wide)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_bit_makes_another_digest(dtype: str) -> None:
    weights = np.linspace(-1, 1, 1000).astype(dtype)
    before = digest(weights)
    weights[500] = np.nextafter(weights[500], weights.dtype.type(1))
    assert digest(weights) != before
    assert digest(np.array([0.0], dtype)) != digest(np.array([-0.0], dtype))


def test_the_fingerprint_is_the_same_in_every_process_of_a_machine() -> None:
    found = fingerprint()
    assert len(found) == 16
    assert int(found, 16) >= 0
    assert found == fingerprint() == elsewhere()


@pytest.mark.skipif(
    not blas_is_not("Prescott") or os.uname().machine != "x86_64",
    reason="needs OpenBLAS, whose kernels can be chosen",
)
def test_other_kernels_have_another_fingerprint() -> None:
    assert elsewhere(OPENBLAS_CORETYPE="Prescott") != fingerprint()
