"""``dptrain predict``."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from dptrain.cli.agreement import agreement
from dptrain.cli.completion import RunPath
from dptrain.cli.flags import CodeFlags, warn_of_change
from dptrain.cli.output import note, print_json, scale_notes
from dptrain.cli.pictures import Reader
from dptrain.cli.samples import input_files, is_picture, is_table, read_samples, read_table
from dptrain.data.csv_table import CsvTable
from dptrain.experiment.schema import Experiment
from dptrain.own.network import OwnNetwork
from dptrain.report.banner import listing
from dptrain.report.tables import print_table
from dptrain.trained import TrainedNetwork, load_run


def predict(
    run: RunPath,
    /,
    *,
    input: Annotated[list[Path], Parameter(consume_multiple=True)],  # noqa: A002 - the flag's name
    invert: bool = False,
    checkpoint: Literal["last", "best"] = "last",
    code: CodeFlags | None = None,
    json: bool = False,
) -> int:
    """Print the class and the probabilities of new samples, or the network's outputs.

    Args:
        run: A run folder, or a model that compress or convert wrote.
        input: An .npy or .npz array, a picture, a folder of pictures, or a .csv file of features;
            one or several.
        invert: Exchange light and dark in pictures, for example where they are drawn in black on
            white and the network was trained on white on black.
        checkpoint: The newest weights, or those with the best score.
        code: For a network of your own.
        json: Print the result as one JSON object.
    """
    files = input_files(input)
    named = code.named() if code is not None else None
    trained, _ = load_run(run, checkpoint, named)
    warn_of_change(trained.experiment, named)
    shape, experiment = trained.network.input_shape, trained.experiment
    reader = Reader(shape, experiment.input_scale, invert)
    tables = {each: read_table(each, shape, experiment) for each in files if is_table(each)}
    found = [
        tables[each].features if each in tables else read_samples(each, reader) for each in files
    ]
    for each in [*_assumed(tables, experiment), *reader.notes]:
        note(each)
    outputs = np.concatenate(_predicted(trained, files, found))
    names = _names(files, [len(each) for each in found], len(outputs))
    classifies = bool(trained.class_names) and outputs.ndim == 2
    compared = None
    if classifies or outputs.shape[1:] == (1,):
        column = next(_label_names(tables.values()), "")
        labels = _labels(files, found, tables)
        compared = agreement(outputs, labels, column, trained.class_names)
    if json:
        summary = {"run": str(run), "input": _listed(files)} | _plain(trained, outputs)
        print_json(summary | ({} if compared is None else compared.plain))
    elif classifies:
        what = _values(trained)[0]
        print_table("", _class_rows(trained, outputs, names), ("row", "class", what, "next"))
    else:
        values = outputs.reshape(len(outputs), -1)
        digits = _digits(experiment)
        rows = [
            (name, *(f"{v:.{digits}g}" for v in row))
            for name, row in zip(names, values, strict=True)
        ]
        print_table("", rows, ("row", *(f"output {k}" for k in range(values.shape[1]))))
    if compared is not None and not json:
        print(compared.told)  # noqa: T201 - the result
    return 0


def _digits(experiment: Experiment) -> int:
    """Return how many tell an output: more where the targets vary little about a large mean."""
    scale = experiment.target_scale
    if scale is None:
        return 6
    pairs = zip(scale.mean, scale.deviation, strict=True)
    return 6 + max(math.ceil(math.log10(max(1.0, abs(mean) / each))) for mean, each in pairs)


def _assumed(tables: Mapping[Path, CsvTable], experiment: Experiment) -> Iterator[str]:
    """Yield what was assumed of tables' columns."""
    for path, table in tables.items():
        columns = table.columns
        if columns.left_out:
            yield (
                f"{path}: left out, as the run did not learn from them: {listing(columns.left_out)}"
            )
        if not columns.header and experiment.header and experiment.columns:
            yield (
                f"{path}: has no header line; its columns are taken for "
                f"{listing(experiment.columns)}"
            )


def _label_names(tables: Iterable[CsvTable]) -> Iterator[str]:
    for columns in (table.columns for table in tables):
        if columns.label is not None:
            yield columns.names[columns.label]


def _labels(
    files: Sequence[Path], samples: Sequence[NDArray[Any]], tables: Mapping[Path, CsvTable]
) -> list[str | None]:
    """Return what the label columns of tables say of each row; None where there are none."""
    found: list[str | None] = []
    for file, rows in zip(files, samples, strict=True):
        labels = tables[file].labels if file in tables else []
        found += labels or [None] * len(rows)
    return found


def _predicted(
    trained: TrainedNetwork, files: Sequence[Path], samples: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """Return the outputs of each file's samples; of pictures that follow each other together."""
    outputs = []
    pairs = list(zip(files, samples, strict=True))
    with scale_notes():
        for pictures, group in groupby(pairs, lambda pair: is_picture(pair[0])):
            arrays = [each for _, each in group]
            together = [np.concatenate(arrays)] if pictures else arrays
            outputs += [trained.predict(each) for each in together]
    return outputs


def _names(files: Sequence[Path], counts: Sequence[int], rows: int) -> list[str]:
    """Return what rows are called: by number, with the file where there are several."""
    if len(files) == 1:
        return [str(i) for i in range(rows)]
    return [
        str(file) if is_picture(file) else f"{file} {i}"
        for file, count in zip(files, counts, strict=True)
        for i in range(count)
    ]


def _listed(files: Sequence[Path]) -> str | list[str]:
    return str(files[0]) if len(files) == 1 else [str(each) for each in files]


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


def _class_rows(
    trained: TrainedNetwork, outputs: NDArray[Any], names: Sequence[str]
) -> list[tuple[str, ...]]:
    form = _values(trained)[2]
    rows: list[tuple[str, ...]] = []
    for name, row in zip(names, outputs, strict=True):
        best = np.argsort(-row, kind="stable")[:2]  # a data set may have but one class
        found = [(trained.class_names[k], format(row[k], form)) for k in best]
        rows.append((name, *found[0], " ".join(" ".join(each) for each in found[1:])))
    return rows
