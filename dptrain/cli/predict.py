"""``dptrain predict``."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dptrain.cli.output import print_json
from dptrain.cli.samples import read_samples
from dptrain.report.tables import print_table
from dptrain.trained import TrainedNetwork, load_run


def predict(
    run: Path,
    /,
    *,
    input: Path,  # noqa: A002 - the flag's name
    checkpoint: Literal["last", "best"] = "last",
    json: bool = False,
) -> int:
    """Print the class and the probabilities of new samples, or what the network puts out.

    Args:
        run: A run folder, or a model that compress or convert wrote.
        input: An .npy array, a picture (light on dark, as in MNIST), or a .csv file of features.
        checkpoint: The newest weights, or those with the best score.
        json: Print the result as one JSON object.
    """
    trained, _ = load_run(run, checkpoint)
    samples = read_samples(input, trained.network.input_shape, trained.experiment.columns)
    outputs = trained.predict(samples)
    classifies = bool(trained.class_names)
    if json:
        print_json({"run": str(run), "input": str(input)} | _plain(trained, outputs))
    elif classifies:
        what = "probability" if trained.loss.probabilistic else "score"
        print_table("", _class_rows(trained, outputs), ("row", "class", what, "next"))
    else:
        rows = [(str(i), *(f"{v:.6g}" for v in row)) for i, row in enumerate(outputs)]
        print_table("", rows, ("row", *(f"output {k}" for k in range(outputs.shape[1]))))
    return 0


def _plain(trained: TrainedNetwork, outputs: NDArray[Any]) -> dict[str, Any]:
    if not trained.class_names:
        return {"outputs": outputs.tolist()}
    best = outputs.argmax(axis=1)
    return {
        "classes": [trained.class_names[i] for i in best],
        "probabilities" if trained.loss.probabilistic else "scores": outputs.tolist(),
        "class_names": list(trained.class_names),
    }


def _class_rows(trained: TrainedNetwork, outputs: NDArray[Any]) -> list[tuple[str, ...]]:
    form = ".2%" if trained.loss.probabilistic else ".4g"
    rows: list[tuple[str, ...]] = []
    for i, row in enumerate(outputs):
        best = np.argsort(-row, kind="stable")[:2]  # a data set may have but one class
        found = [(trained.class_names[k], format(row[k], form)) for k in best]
        rows.append((str(i), *found[0], " ".join(" ".join(each) for each in found[1:])))
    return rows
