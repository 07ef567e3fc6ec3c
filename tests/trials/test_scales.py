"""One image gives one answer, whatever it comes in, and whichever images stand beside it."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dptrain
from dptrain.data.rescaling import ScaleWarning
from dptrain.errors import DataError
from dptrain.experiment.evaluation_job import evaluation_job
from dptrain.experiment.schema import Experiment
from dptrain.trained import TrainedNetwork
from tests.own.nets import Net

Array = NDArray[Any]

GREY = np.random.default_rng(0).integers(0, 256, (300, 8, 8)).astype(np.uint8)
GREY[0].flat = np.arange(64) * 4
T = (GREY[:, :4].mean((1, 2)) > 127).astype(int)
FORMS = {"uint8": GREY, "int64": GREY.astype(int), "whole floats": GREY.astype(float)}
FRACTIONS = GREY / 255


def fitted(x: Array, **settings: Any) -> TrainedNetwork:
    net = dptrain.Network(
        x.shape[1:], [dptrain.Flatten(), dptrain.Dense(5), dptrain.ReLU(), dptrain.Dense(2)]
    )
    return dptrain.fit(
        net, (x, T), epochs=1, workers=1, progress=False, out=None, **settings
    ).network


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPTRAIN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("learnt", [*FORMS.values(), FRACTIONS], ids=[*FORMS, "fractions"])
def test_an_image_has_one_answer_in_any_dtype(learnt: Array) -> None:
    trained = fitted(learnt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScaleWarning)
        forms = [*FORMS.values(), FRACTIONS, FRACTIONS.astype(np.float32), GREY.reshape(300, 64)]
        answers = [trained.predict(each) for each in forms]
    for each in answers[1:]:
        np.testing.assert_array_equal(each, answers[0])


def test_what_is_assumed_is_told() -> None:
    words = r"trained on numbers from 0 to 255, these are 0 to 1; .* times 255"
    with pytest.warns(ScaleWarning, match=words):
        fitted(GREY.astype(int)).classify(FRACTIONS)
    with pytest.warns(ScaleWarning, match=r"from 0 to 1, these are 0 to 255; .* divided by 255"):
        fitted(FRACTIONS).classify(GREY.astype(int))


def test_a_scale_that_cannot_be_known_is_told() -> None:
    standard = (FRACTIONS - 0.5) / 0.3
    trained = fitted(standard)
    words = r"from -1\.6\d+ to 1\.6\d+, these are 0 to 255"
    with pytest.warns(ScaleWarning, match=f"{words}; they are taken as grey values, divided by"):
        trained.classify(GREY)
    with pytest.warns(ScaleWarning, match=f"{words}; bring"):
        trained.classify(GREY.astype(int))
    with pytest.warns(ScaleWarning, match="from 0 to 1, these are -9 to 9; bring"):
        fitted(GREY).classify(np.linspace(-9, 9, 64).reshape(1, 8, 8))


BLACK_AND_WHITE = (GREY > 127).astype(np.uint8)
CENTRED = FRACTIONS * 2 - 1
SIXTEEN_BITS = GREY.astype(np.uint16) * 257
FRAMED = GREY.copy()  # on black
FRAMED[:, [0, -1]] = FRAMED[:, :, [0, -1]] = 0


@pytest.mark.parametrize(
    ("learnt", "given", "as_is"),
    [
        (GREY, BLACK_AND_WHITE, BLACK_AND_WHITE.astype(float)),
        (GREY.astype(int), BLACK_AND_WHITE, BLACK_AND_WHITE.astype(int) * 255),
        (GREY.astype(int), BLACK_AND_WHITE > 0, BLACK_AND_WHITE.astype(int) * 255),
    ],
)
def test_black_and_white_is_so_in_any_dtype(learnt: Array, given: Array, as_is: Array) -> None:
    trained = fitted(learnt)
    with pytest.warns(ScaleWarning, match="these are 0 to 1"):
        found = trained.predict(given)
    np.testing.assert_array_equal(found, trained.predict(as_is))


@pytest.mark.parametrize(
    ("learnt", "given", "words"),
    [
        (FRACTIONS, CENTRED, "from 0 to 1, these are -1 to 1; bring"),
        (GREY, CENTRED, "from 0 to 1, these are -1 to 1; bring"),
        (GREY.astype(int), CENTRED, "from 0 to 255, these are -1 to 1; bring"),
        (GREY.astype(int), GREY.astype(np.int8), "from 0 to 255, these are -128 to 127; bring"),
        (FRAMED / 127.5 - 1, FRACTIONS, "from -1 to 1, these are 0 to 1; bring"),
        (SIXTEEN_BITS, GREY, "from 0 to 65535, these are 0 to 255; bring"),
    ],
)
def test_pictures_of_another_scale_are_told(learnt: Array, given: Array, words: str) -> None:
    with pytest.warns(ScaleWarning, match=words):
        fitted(learnt).classify(given)


def test_bytes_that_are_no_grey_values_are_told() -> None:
    with pytest.warns(RuntimeWarning, match=r"divided by 255, but the largest is 1; where they"):
        trained = fitted(BLACK_AND_WHITE)
    with pytest.warns(ScaleWarning, match=r"on grey values up to 1, these go up to 255; bring"):
        trained.classify(GREY)


@pytest.mark.parametrize(
    ("learnt", "test", "words"),
    [
        (
            FRACTIONS,
            GREY.astype(float),
            "x_test holds numbers from 0 to 255, and x_train from 0 to 1",
        ),
        (
            GREY.astype(int),
            FRACTIONS,
            "x_test holds numbers from 0 to 1, and x_train from 0 to 255",
        ),
        (GREY, BLACK_AND_WHITE, "x_test holds numbers from 0 to 1, and x_train from 0 to 255"),
        (
            CENTRED[:, 0],
            99 * CENTRED[:, 0],
            "x_test holds numbers from -99 to 99, and x_train from -1",
        ),
    ],
)
def test_a_test_part_of_another_scale_is_told(learnt: Array, test: Array, words: str) -> None:
    with pytest.warns(RuntimeWarning, match=words):
        fitted(learnt, test_data=(test, T))
    fitted(learnt, test_data=(learnt[:100] * 1, T[:100]))


def test_numbers_of_a_table_are_left_alone() -> None:
    """Bytes that are no pictures: ages, counts."""
    ages = np.random.default_rng(0).integers(18, 80, (300, 3))
    trained = fitted(ages[:, None])
    for same in (ages.astype(np.uint8), ages.astype(float)):
        np.testing.assert_array_equal(trained.predict(same), trained.predict(ages))


def test_data_sets_of_another_scale_are_evaluated_alike(tmp_path: Path) -> None:
    forms = {**FORMS, "fractions": FRACTIONS.astype(np.float32)}
    paths = [tmp_path / f"{i}.npz" for i in range(len(forms))]
    for path, x in zip(paths, forms.values(), strict=True):
        np.savez(path, x_train=x, t_train=T)
    for path in paths:
        experiment = Experiment(dataset=str(path), model="mlp:64-5-2", epochs=1)
        trained = dptrain.train(experiment, progress=False, out=tmp_path / path.stem).network
        found = []
        for other in paths:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ScaleWarning)
                job = evaluation_job(trained.experiment, str(other), None, trained.class_names)
            split = replace(job.split("test"), index=None)  # of its own data as well all rows
            found.append(trained.computed(split.take(np.arange(50), np.float32)[0]))
        for each in found[1:]:
            np.testing.assert_array_equal(each, found[0])


def own() -> Net:
    return Net(64, 50, 2)


@pytest.mark.parametrize("kind", ["layers", "own"])
def test_a_row_has_its_own_answer(kind: str) -> None:
    """In float32 kernels of OpenBLAS differ between the first rows of a product and the others."""
    x = np.random.default_rng(1).standard_normal((300, 64)).astype(np.float32)
    net: Any = own()
    if kind == "layers":
        net = dptrain.Network(64, [dptrain.Dense(50), dptrain.Sigmoid(), dptrain.Dense(2)])
    trained = dptrain.fit(net, (x, T), epochs=1, workers=1, progress=False).network
    together = trained.predict(x)
    order = np.random.default_rng(2).permutation(300)
    np.testing.assert_array_equal(trained.predict(x[order]), together[order])
    for i in (0, 1, 6, 8, 21, 62, 63, 64, 130, 299):
        np.testing.assert_array_equal(trained.predict(x[i : i + 1]), together[i : i + 1])
        np.testing.assert_array_equal(trained.predict(x[i:][:7]), together[i:][:7])


def test_masked_values_are_refused() -> None:
    x = np.ma.masked_greater(FRACTIONS, 0.9)
    trained = fitted(FRACTIONS)
    with pytest.raises(DataError, match=r"the input is a masked array with \d+ masked values"):
        trained.predict(x)
    with pytest.raises(DataError, match="masked"):
        trained.predict(list(x))
    np.testing.assert_array_equal(
        trained.classify(np.ma.masked_greater(FRACTIONS, 9)), trained.classify(FRACTIONS)
    )


def test_saved_weights_of_another_scale_are_told(tmp_path: Path) -> None:
    net: Any = [dptrain.Flatten(), dptrain.Dense(2)]
    settings: dict[str, Any] = {"epochs": 1, "workers": 1, "progress": False}
    first = dptrain.fit(dptrain.Network((8, 8), net), (GREY.astype(int), T), **settings)
    settings["init_from"] = str(first.run)
    with pytest.warns(RuntimeWarning, match=r"from 0 to 255, the data set has 0 to 255 divided by"):
        dptrain.fit(dptrain.Network((8, 8), net), (GREY, T), **settings)
    dptrain.fit(dptrain.Network((8, 8), net), (GREY.astype(float), T), **settings)


def test_noise_for_another_scale_is_told() -> None:
    with pytest.warns(RuntimeWarning, match=r"noise of deviation 0\.1 is next to nothing on"):
        fitted(GREY.astype(int), augment_noise=0.1)
    fitted(GREY, augment_noise=0.1)
