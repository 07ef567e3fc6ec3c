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
    """Print the class and the probabilities of new samples.

    Args:
        run: A run folder.
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
        print_table("", _class_rows(trained, outputs), ("row", "class", "probability", "next"))
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
        "probabilities": outputs.tolist(),
        "class_names": list(trained.class_names),
    }


def _class_rows(trained: TrainedNetwork, outputs: NDArray[Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for i, row in enumerate(outputs):
        first, second = np.argsort(-row, kind="stable")[:2]
        rows.append(
            (
                str(i),
                trained.class_names[first],
                f"{row[first]:.2%}",
                f"{trained.class_names[second]} {row[second]:.2%}",
            )
        )
    return rows
