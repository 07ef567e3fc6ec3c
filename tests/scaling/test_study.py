"""Studies of scaling, with real workers."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dptrain.errors import DataError, UsageError
from dptrain.exchange.engine import StepSplit
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.report.scaling import as_data, draw_study, print_study
from dptrain.scaling.machine_warnings import warnings_about
from dptrain.scaling.model import CostModel
from dptrain.scaling.study import CaseResult, Study, cases, recommended, study
from tests.commands import dptrain
from tests.sessions import run, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data") / "small.npz"))


def experiment(dataset: str, **changes: Any) -> Experiment:
    return Experiment(model="mlp:20-7-3", dataset=dataset, batch_size=20, **changes)


def test_strong_scaling_keeps_the_experiment_and_weak_scaling_the_share(dataset: str) -> None:
    _, found = cases(experiment(dataset), [1, 2, 3], ["strong", "weak"], {}, 4)
    shape = [(c.kind, c.workers, c.job.batch_size, c.job.shards) for c in found]
    assert shape == [
        ("strong", 1, 20, 4), ("strong", 2, 20, 4), ("strong", 3, 20, 4),
        ("weak", 1, 20, 1), ("weak", 2, 40, 2), ("weak", 3, 60, 3),
    ]  # fmt: skip
    assert [c.execution.exchange for c in found[:3]] == ["inline", "shared", "shared"]


def test_a_table_is_settled_as_for_training(tmp_path: Path) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "run"
    table.write_text("a,b,kind\n" + "".join(f"{i * i % 40},{i % 7},{i % 3}\n" for i in range(40)))
    settings: dict[str, Any] = {
        "dataset": str(table),
        "model": "linear",
        "batch_size": 9,
        "normalise": "standard",
    }
    trained = run(settings | {"steps": 2}, out, workers=1).job.experiment
    (_, second) = cases(Experiment(**settings), [1, 2], ["strong"], {}, 4)[1]
    assert replace(second.job.experiment, steps=2) == trained
    assert (trained.label, trained.columns) == ("kind", ["a", "b"])


def test_a_recorded_experiment_wants_its_data(dataset: str) -> None:
    with pytest.raises(DataError, match="is not what the experiment was recorded with"):
        cases(experiment(dataset, dataset_digest="0" * 64), [1], ["strong"], {}, 4)


def test_too_few_rows_for_weak_scaling(dataset: str) -> None:
    with pytest.raises(UsageError, match="minibatches of 160 rows, but there are 137"):
        cases(experiment(dataset), [1, 8], ["weak"], {}, 4)


def result(case: Any, seconds: float, speed_up: float, digests: set[str]) -> CaseResult:
    split = StepSplit(seconds, 0.0, 0.0, 0.0)
    return CaseResult(case, seconds, seconds, split, seconds, speed_up, 1.0, frozenset(digests))


def test_the_smallest_number_that_is_as_fast_as_the_fastest_is_recommended(dataset: str) -> None:
    _, what = cases(experiment(dataset), [1, 2, 4], ["strong"], {}, 4)
    speeds = {1: 1.0, 2: 1.97, 4: 2.01}
    found = [result(case, 1 / speeds[case.workers], speeds[case.workers], {"d"}) for case in what]
    assert recommended(found) == 2
    assert recommended([found[0]._replace(speed_up=1.96), *found[1:]]) == 1


@pytest.mark.parametrize("exchange", [None, "star"])
def test_a_study(exchange: str | None, dataset: str, tmp_path: Path) -> None:
    told: list[str] = []
    ways = {"exchange": exchange}
    data, what = cases(experiment(dataset), [1, 2], ["strong", "weak"], ways, 2)
    found = study(data, what, steps=12, rounds=2, told=told.append)
    assert found.same
    assert len(told) == 8
    strong = [each for each in found.results if each.case.kind == "strong"]
    assert len({digest for each in strong for digest in each.digests}) == 1
    assert (strong[0].speed_up, strong[0].efficiency) == (1.0, 1.0)
    assert strong[1].efficiency == pytest.approx(strong[1].speed_up / 2)
    for each in found.results:
        assert 0 < each.seconds <= each.slowest
        assert sum(each.split) == pytest.approx(each.seconds, rel=0.5)
        assert each.predicted > 0
    draw_study(found, tmp_path / "scaling.svg")
    assert "predicted" in (tmp_path / "scaling.svg").read_text()
    assert len(as_data(found, ["w"])["scaling"]) == 4


def test_other_weights_are_a_failed_check(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, what = cases(experiment(dataset), [1, 2], ["strong"], {}, 2)
    results = [result(what[0], 1.0, 1.0, {"a"}), result(what[1], 0.5, 2.0, {"b"})]
    print_study(Study(results, {"strong": CostModel(1, 1, 1, 0)}, 2, same=False))
    assert "DIFFERENT" in capsys.readouterr().out


def test_crowded_cores_are_warned_of() -> None:
    assert not [w for w in warnings_about([1, 2], 2) if "share" in w]
    (warning,) = [w for w in warnings_about([1, 2, 4, 8], 2) if "share" in w]
    assert warning.startswith("4, 8 workers share 2 cores")


def test_the_verb(dataset: str, tmp_path: Path) -> None:
    picture = tmp_path / "s.png"
    done = dptrain(
        "scaling", "--dataset", dataset, "--model", "mlp:20-7-3", "--batch-size", 20,
        "--workers", "2,1", "--steps", 10, "--rounds", 1, "--out", picture, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["workers"] for each in found["scaling"]] == [1, 2, 1, 2]
    assert found["digests_equal"]
    assert found["recommended_workers"] in (1, 2)
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--workers", "1,x"), "is not a list of numbers"),
        (("--workers", "0"), "is not a list of numbers"),
        (("--rounds", "0"), "rounds=0 must be at least 1"),
        (("--out", "s.jpeg"), "cannot draw a picture"),
        (("--shards", "2", "--workers", "3"), "workers=3 needs at least 3 shards"),
    ],
)
def test_mistakes(flags: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = dptrain("scaling", *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_execution_is_settled(dataset: str) -> None:
    _, (case,) = cases(experiment(dataset), [2], ["strong"], {"pin": True}, 2)
    assert case.execution == Execution(workers=2, exchange="shared", pin=True)
