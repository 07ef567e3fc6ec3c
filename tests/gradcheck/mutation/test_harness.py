"""The harness of mutants: of a few, it is known what comes of them."""

import pytest

from tests.gradcheck.mutation.battery import Run, Told
from tests.gradcheck.mutation.harness import Fate, apart, clean, fate, interval
from tests.gradcheck.mutation.mutants import described, mutants


@pytest.fixture(scope="module")
def battery() -> dict[Run, Told]:
    return clean()[0]


@pytest.mark.parametrize(
    ("module", "function", "change", "wanted", "kind"),
    [
        ("dptrain.nn.initializers", "Zeros.scale", "doubled", "found", "initial-weights"),
        ("dptrain.optim.rules", "Lion.update", "one more", "equivalent", ""),
        ("dptrain.nn.dense", "Dense.output_shape", "one less", "crash", ""),
    ],
)
def test_what_comes_of_some_mutants(
    module: str, function: str, change: str, wanted: str, kind: str, battery: dict[Run, Told]
) -> None:
    found = mutants([(module, function)])
    mutant = next(each for each in found if f": {change}: " in described(each))
    told = apart(
        lambda: fate(mutant, battery), Fate(str(mutant), described(mutant), "not carried out")
    )
    assert (told.fate, told.kind) == (wanted, kind)


def test_an_interval_has_the_fraction_in_it() -> None:
    assert interval(9, 10) == "9 of 10: 90.0 % (60 to 98)"
    assert interval(0, 0) == "none"
