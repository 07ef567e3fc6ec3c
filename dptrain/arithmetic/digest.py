"""Names for arrays and for the arithmetic of a machine."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.randomness import Purpose, generator


def digest(parameters: NDArray[np.floating]) -> str:
    """Return the SHA-256, in hex, of the bytes of the flat parameter vector: the weights' name."""
    return hashlib.sha256(np.ascontiguousarray(parameters).data).hexdigest()


def tensor_digests(tensors: Mapping[str, NDArray[np.floating]]) -> dict[str, str]:
    """Return the SHA-256, in hex, of the bytes of each tensor, by name."""
    return {name: digest(tensor) for name, tensor in tensors.items()}


def fingerprint() -> str:
    """Return 16 hex digits that name how this process computes.

    A few fixed computations with the operations that training consists of, in both precisions:
    other BLAS kernels, another NumPy's exp, or more BLAS threads show as another fingerprint.
    """
    total = hashlib.sha256()
    random = generator(20161001, Purpose.FINGERPRINT)
    for dtype in (np.float32, np.float64):
        x = random.standard_normal((2, 61, 397)).astype(dtype)
        w = random.standard_normal((397, 83)).astype(dtype)
        z = np.matmul(x, w)
        for result in (
            z,
            np.matmul(x.transpose(0, 2, 1), z),
            np.matmul(z, w.T),
            np.exp(-np.abs(z)),
            np.tanh(z),
            np.log1p(np.abs(z)),
            np.sqrt(np.abs(z)),
            np.add.reduce(z, axis=1),
            np.add.reduce(z, axis=-1),
        ):
            total.update(np.ascontiguousarray(result).data)
    return total.hexdigest()[:16]
