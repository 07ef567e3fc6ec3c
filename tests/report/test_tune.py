"""Rankings and pictures of searches."""

import re
from pathlib import Path
from typing import Any

import pytest

from dptrain.report.tune import as_data, notes_on, print_search, write_ranking
from dptrain.report.tune_picture import draw_search
from dptrain.tune.folder import Search, SearchFolder
from dptrain.tune.trial import Trial


def search(**changes: Any) -> Search:
    fields: dict[str, Any] = {
        "experiment": {"model": "mlp:20-7-3"},
        "execution": {},
        "parameters": ["lr=loguniform:1e-3:1", "optimizer=sgd,adam", "model.hidden=int:5:15"],
        "method": "random",
        "trials": 5,
        "metric": "validation_accuracy",
    }
    return Search(**fields | changes)


def trial(number: int, value: float | None, status: Any = "done", **more: Any) -> Trial:
    fields: dict[str, Any] = {
        "parameters": {"lr": 0.01 * number, "optimizer": "adam", "model.hidden": 4 + number},
        "epoch": 2.0,
        "epochs": 3.0,
        "measures": {"validation_accuracy": value, "train_accuracy": 0.99} if value else {},
        "digest": f"{number:064}",
        "message": "step 3 has a loss that is not finite\nand more" if status == "failed" else "",
    }
    return Trial(number=number, value=value, status=status, **fields | more)


TRIALS = [
    trial(1, 0.5),
    trial(2, 0.9, "pruned"),
    trial(3, 0.8),
    trial(4, None, "failed", digest=None, epoch=None),
    trial(5, 0.8, digest=f"{3:064}"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    with SearchFolder.create("test", tmp_path / "s") as made:
        yield made


def test_the_best_trial_stands_first(folder: SearchFolder, capsys: Any) -> None:
    write_ranking(search(), TRIALS, folder)
    lines = folder.ranking.read_text().splitlines()
    assert lines[2].startswith("| trial | lr | optimizer | model.hidden | validation accuracy |")
    assert [line.split(" | ")[0] for line in lines[4:9]] == ["| 3", "| 5", "| 1", "| 2", "| 4"]
    assert "| 0.8000 | 0.9900 | 2 of 3 |" in lines[4]
    print_search(search(), TRIALS, folder, finished=False)
    printed = capsys.readouterr().out
    assert "trials 3, 5 came to the same weights" in printed
    assert "trial 4 failed: step 3 has a loss that is not finite\n" in printed
    assert f"dptrain evaluate {folder.run(3)} --checkpoint best" in printed
    assert f"dptrain tune --resume {folder.path}" in printed


def test_what_reached_the_goals_stands_first_of_all(folder: SearchFolder) -> None:
    reached = [*TRIALS[:4], trial(5, 0.7, "target")]
    found = as_data(search(until="train>=.9"), reached, folder, finished=True)
    assert [each["trial"] for each in found["trials"]] == [5, 3, 1, 2, 4]
    assert (found["best"]["trial"], found["reached"], found["same_weights"]) == (5, True, [])
    losses = [trial(1, 0.5), trial(2, 0.4)]
    found = as_data(search(metric="validation_loss"), losses, folder, finished=True)
    assert found["best"]["trial"] == 2


def test_choosing_by_the_test_rows_is_told() -> None:
    assert notes_on(search()) == []
    assert "--validation" in notes_on(search(metric="test_loss"))[0]
    assert "nothing of new data" in notes_on(search(metric="train_loss"))[0]
    assert "--side-by-side 1" in notes_on(search(method="tpe", behind=3))[0]


@pytest.mark.parametrize(
    "trials",
    [
        TRIALS,
        TRIALS[:1],
        [trial(1, 0.5), trial(2, 0.5), trial(3, 0.5)],
        [trial(n, 0.9 + n / 100 if n < 5 else 0.1) for n in range(1, 6)],
        [TRIALS[1], TRIALS[3]],
    ],
)
def test_pictures(trials: list[Trial], tmp_path: Path) -> None:
    path = tmp_path / "tune.svg"
    draw_search(search(until="validation>=.6,train>=.9"), trials, path)
    text = path.read_text()
    names = re.findall(r">([^<>]+)</text>", text)
    for name in ("lr", "optimizer", "model.hidden", "sgd", "adam", "validation accuracy", "best"):
        assert name in names
    assert ("failed" in names) == any(each.status == "failed" for each in trials)
    assert ("beyond the edge" in names) == (trials[-1].value == 0.1)
