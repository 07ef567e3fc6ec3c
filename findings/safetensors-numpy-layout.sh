#!/bin/sh
# safetensors.numpy.save writes the bytes of an array's memory, whatever its strides. A transposed,
# Fortran-ordered, reversed or strided array comes back with the right shape and other values, and
# nothing is raised. Seen with safetensors 0.8.0 and NumPy 2.4.6.
#
# Expected: an error, or a file with the array's values in C order, as numpy.save writes it.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6

"$folder/venv/bin/python" - >"$folder/seen" <<'PYTHON'
import numpy as np
from safetensors.numpy import load, save

base = np.arange(6, dtype=np.float32).reshape(2, 3)
arrays = {
    "C order": base,
    "transposed": base.T,
    "Fortran order": np.asfortranarray(base),
    "reversed": base[::-1],
    "every second": np.arange(12, dtype=np.float32)[::2],
}
for name, array in arrays.items():
    back = load(save({"x": array}))["x"]
    same = np.array_equal(array, back)
    print(f"{name}: {'the same' if same else 'other values, no error'}")
PYTHON
cat "$folder/seen"

cat >"$folder/wanted" <<'TEXT'
C order: the same
transposed: other values, no error
Fortran order: other values, no error
reversed: other values, no error
every second: other values, no error
TEXT
if ! cmp -s "$folder/seen" "$folder/wanted"; then
    echo 'this has changed' >&2
    exit 1
fi
