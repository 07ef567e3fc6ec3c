"""Splits and steps of an epoch that are wrong are named."""

from pathlib import Path
from typing import Any

import pytest

from dptrain.data import dataset
from tests.gradcheck.minibatches.cases import case

Patch = pytest.MonkeyPatch


def test_the_last_minibatch_lost(monkeypatch: Patch, tmp_path: Path) -> None:
    right = case(tmp_path / "data")
    right.job.steps_per_epoch = 2
    assert right.named() == (
        "rows-lost",
        "The last minibatch of an epoch is lost. An epoch has 2 steps instead of ⌈29 / 13⌉ = 3.",
    )


def leaking(right: Any, name: str, fraction: float, rows: Any, seed: int) -> Any:
    return rows, right(name, fraction, rows, seed)[1]


def test_held_out_rows_that_are_trained_on(monkeypatch: Patch, tmp_path: Path) -> None:
    right = dataset._hold_out
    monkeypatch.setattr(dataset, "_hold_out", lambda *args: leaking(right, *args))
    kind, sentence = case(tmp_path / "data").named()
    assert kind == "held-out-rows-trained"
    assert sentence.startswith("Rows held out for testing are trained on: ")
    kind, sentence = case(tmp_path / "data", test=0.0, validation=0.2, train_rows=None).named()
    assert kind == "held-out-rows-trained"
    assert sentence.startswith("Rows held out for validation are trained on: ")


def test_other_rows_held_out(monkeypatch: Patch, tmp_path: Path) -> None:
    right = dataset._hold_out
    monkeypatch.setattr(dataset, "_hold_out", lambda n, f, r, seed: right(n, f, r, seed + 1))
    assert case(tmp_path / "data").named()[0] == "other-split"


def test_the_first_rows_instead_of_the_seeds(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(dataset, "_some", lambda count, rows, _: rows[:count])
    assert case(tmp_path / "data").named()[0] == "rows-outside-training"


def test_all_rows_instead_of_train_rows(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(dataset, "_some", lambda _, rows, __: rows)
    assert case(tmp_path / "data").named()[0] == "rows-outside-training"
