"""Scores that flatter, and runs that learnt nothing, are told as such."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain import Dense, Network
from dptrain.cli.verbs import program
from dptrain.errors import NonFiniteError
from dptrain.nn.losses import LOSSES
from tests.sessions import run, write_dataset

RANDOM = np.random.default_rng(0)
HOUSES = np.c_[RANDOM.uniform(50, 300, 200), RANDOM.integers(1900, 2020, 200)].astype(float)
PRICES = 900 * HOUSES[:, 0] + 400 * (HOUSES[:, 1] - 1900)
LINE = Network(2, [Dense(1)])


def fit(x: Any, t: Any, network: Network = LINE, **settings: Any) -> dptrain.Result:
    return dptrain.fit(network, (x, t), workers=1, progress=False, **settings)


def test_diverged_on_raw_columns(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError) as told:
        fit(HOUSES, PRICES, epochs=20, optimizer="sgd", lr=0.1, out=tmp_path / "run")
    for part in ("inputs have means or deviations up to 1", "give normalise='standard'",
                 "targets have a mean or deviation of 1", "lr="):  # fmt: skip
        assert part in str(told.value)


@pytest.mark.parametrize("loss", [name for name, kind in LOSSES.items() if kind.any_scale])
def test_a_negative_r2_is_worth_a_sentence(tmp_path: Path, loss: Any) -> None:
    found = fit(HOUSES, PRICES, epochs=1, loss=loss, normalise="standard", out=tmp_path / "run")
    (note,) = found.notes
    assert note.startswith("R² -")
    assert "targets have a mean or deviation of" in note
    assert "inputs" not in note


def test_no_better_than_guessing(tmp_path: Path) -> None:
    labels = (np.arange(200) % 5 == 0).astype(int)
    noise = np.ones((200, 2))
    network = Network(2, [Dense(2)])
    found = fit(noise, labels, network, epochs=3, optimizer="sgd", lr=0.1, out=tmp_path / "0")
    assert any("no better than '0' for all of them" in note for note in found.notes)
    good = fit(noise * labels[:, None], labels, network, epochs=60, lr=0.1, out=tmp_path / "1")
    assert good.evaluation is not None
    assert good.evaluation.test_accuracy == 1
    assert not [each for each in good.notes if "guess" in each or "for all of them" in each]


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_best_by_the_test_rows(
    tmp_path: Path, validation: float, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    data = write_dataset(tmp_path / "small.npz")
    settings = {"dataset": str(data), "steps": None, "epochs": 30, "lr": 0.1}
    outcome = run(settings | {"validation": validation}, out, workers=1)
    said = "chosen by its score on the test rows"
    flatters = not validation
    assert outcome.steps > 0
    assert any(said in note for note in outcome.notes) is flatters
    assert outcome.summary()["notes"] == outcome.notes
    for checkpoint in ("best", "last"):
        told = flatters and checkpoint == "best"
        program([])(
            ["evaluate", str(out), "--checkpoint", checkpoint], result_action="return_value"
        )
        assert (said in capsys.readouterr().out) is told
        program([])(["evaluate", str(out), "--checkpoint", checkpoint, "--json"],
            result_action="return_value")  # fmt: skip
        assert bool(json.loads(capsys.readouterr().out)["notes"]) is told
