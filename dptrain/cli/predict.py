"""``dptrain predict``."""

import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dptrain.cli.flags import CodeFlags, warn_of_change
from dptrain.cli.output import print_json
from dptrain.cli.samples import is_table, read_samples, read_table
from dptrain.data.csv_classes import class_number
from dptrain.data.csv_table import Table
from dptrain.experiment.schema import Experiment
from dptrain.own.network import OwnNetwork
from dptrain.report.banner import listing
from dptrain.report.tables import print_table
from dptrain.trained import TrainedNetwork, load_run


def predict(
    run: Path,
    /,
    *,
    input: Path,  # noqa: A002 - the flag's name
    checkpoint: Literal["last", "best"] = "last",
    code: CodeFlags | None = None,
    json: bool = False,
) -> int:
    """Print the class and the probabilities of new samples, or what the network puts out.

    Args:
        run: A run folder, or a model that compress or convert wrote.
        input: An .npy array, a picture (light on dark, as in MNIST), or a .csv file of features.
        checkpoint: The newest weights, or those with the best score.
        code: Of a network of your own.
        json: Print the result as one JSON object.
    """
    named = code.named() if code is not None else None
    trained, _ = load_run(run, checkpoint, named)
    warn_of_change(trained.experiment, named)
    shape, table = trained.network.input_shape, None
    if is_table(input):
        table = read_table(input, shape, trained.experiment)
        _tell(input, table, trained.experiment)
        samples: NDArray[Any] = table.features
    else:
        samples = read_samples(input, shape)
    outputs = trained.predict(samples)
    compared = _compared(table, trained, outputs) if table is not None else {}
    classifies = bool(trained.class_names) and outputs.ndim == 2
    if json:
        print_json({"run": str(run), "input": str(input)} | _plain(trained, outputs) | compared)
    elif classifies:
        what = _values(trained)[0]
        print_table("", _class_rows(trained, outputs), ("row", "class", what, "next"))
    else:
        values = outputs.reshape(len(outputs), -1)
        rows = [(str(i), *(f"{v:.6g}" for v in row)) for i, row in enumerate(values)]
        print_table("", rows, ("row", *(f"output {k}" for k in range(values.shape[1]))))
    if compared and not json:
        _print_compared(table, compared)
    return 0


def _tell(path: Path, table: Table, experiment: Experiment) -> None:
    """Say what was assumed of a table's columns."""
    columns = table.columns
    if columns.left_out:
        print(  # noqa: T201 - the command line's own output
            f"dptrain: {path}: left out, as the run did not learn from them: "
            f"{listing(columns.left_out)}",
            file=sys.stderr,
        )
    if not columns.header and experiment.header and experiment.columns:
        print(  # noqa: T201
            f"dptrain: {path}: has no header line; its columns are taken for "
            f"{listing(experiment.columns)}",
            file=sys.stderr,
        )


def _compared(table: Table, trained: TrainedNetwork, outputs: NDArray[Any]) -> dict[str, Any]:
    """Return how many classes are those of the table's label column, if it can be told."""
    if not table.labels or not trained.class_names or outputs.ndim != 2:
        return {}
    labels = [class_number(label, trained.class_names) for label in table.labels]
    if None in labels:
        return {}
    return {"right": int(np.sum(outputs.argmax(axis=1) == np.array(labels)))}


def _print_compared(table: Table | None, compared: dict[str, Any]) -> None:
    assert table is not None
    assert table.columns.label is not None
    name = table.columns.names[table.columns.label]
    print(f"{compared['right']} of {len(table.labels)} are as column {name!r} says")  # noqa: T201


def _plain(trained: TrainedNetwork, outputs: NDArray[Any]) -> dict[str, Any]:
    if not trained.class_names or outputs.ndim != 2:
        return {"outputs": outputs.tolist()}
    best = outputs.argmax(axis=1)
    return {
        "classes": [trained.class_names[i] for i in best],
        _values(trained)[1]: outputs.tolist(),
        "class_names": list(trained.class_names),
    }


def _values(trained: TrainedNetwork) -> tuple[str, str, str]:
    """Return what the network says of a class, in the singular, in the plural, and its format."""
    if isinstance(trained.network, OwnNetwork):
        return "output", "outputs", ".6g"
    if trained.loss.probabilistic:
        return "probability", "probabilities", ".2%"
    return "score", "scores", ".4g"


def _class_rows(trained: TrainedNetwork, outputs: NDArray[Any]) -> list[tuple[str, ...]]:
    form = _values(trained)[2]
    rows: list[tuple[str, ...]] = []
    for i, row in enumerate(outputs):
        best = np.argsort(-row, kind="stable")[:2]  # a data set may have but one class
        found = [(trained.class_names[k], format(row[k], form)) for k in best]
        rows.append((str(i), *found[0], " ".join(" ".join(each) for each in found[1:])))
    return rows
