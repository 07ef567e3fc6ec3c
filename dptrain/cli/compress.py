"""``dptrain compress``."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from dptrain.cli.completion import DataSet, RunPath
from dptrain.cli.flags import whole_number
from dptrain.cli.output import print_json, scale_notes
from dptrain.compression import CompressionResult, measured, variants
from dptrain.errors import UsageError
from dptrain.experiment.evaluation_job import evaluation_job
from dptrain.report.tables import print_table
from dptrain.trained import load_run
from dptrain.weights.model_file import SUFFIX, is_model_file, save_model

# What is tried where nothing is asked for.
FRACTIONS, BITS = "0.5,0.8,0.9", 8

HEADER = ("pruned", "bits", "not zero", "bytes", "size", "test", "loss", "same class")


def compress(
    run: RunPath,
    /,
    *,
    prune: str | None = None,
    bits: Annotated[int | None, Parameter(converter=whole_number)] = None,
    out: Path | None = None,
    checkpoint: Literal["last", "best"] = "last",
    dataset: DataSet = None,
    json: bool = False,
) -> int:
    """Make a run's weights smaller, and compare size and accuracy before and after.

    Without --prune and --bits several settings are tried. Sizes are those of the file that --out
    writes; evaluate, predict, inspect and convert accept that file like a run.

    Args:
        run: A run folder, or a model that compress or convert wrote.
        prune: Fraction of the smallest weights to set to zero, or several, such as 0.5,0.8,0.9.
        bits: Quantise the weights to whole numbers of 2 to 8 bits, with a scale for each unit.
        out: A file to write the smallest network to, such as small.npz.
        checkpoint: The newest weights, or those with the best score.
        dataset: A data set other than the one that the run was trained on.
        json: Print the result as one JSON object.
    """
    if prune is None and bits is None:
        if out is not None:
            raise UsageError(f"--out {out} needs to know what to write; give --prune or --bits")
        prune, bits = FRACTIONS, BITS
    fractions = _fractions(prune)
    if out is not None:
        _check_out(out, fractions)
    trained, saved = load_run(run, checkpoint)
    trained.layered("smaller weights")
    with scale_notes():
        job = evaluation_job(trained.experiment, dataset, None, trained.class_names)
    tried = variants(trained, fractions, bits)
    rows = list(measured(trained, saved, job, tried))
    if out is not None:
        last = tried[-1]
        save_model(out, last.checkpoint(trained.network, saved), last.quantised)
    if json:
        written = None if out is None else str(out)
        print_json(
            {"run": str(run), "rows": [msgspec.to_builtins(row) for row in rows], "out": written}
        )
    else:
        cells = [_cells(row, rows[0], trained.parameters.itemsize) for row in rows]
        print_table(f"{run}, step {saved.step}", cells, HEADER)
        if out is not None:
            print(f"model: {out}")  # noqa: T201 - the result
    return 0


def _fractions(text: str | None) -> list[float]:
    try:
        return [] if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"prune={text!r} is not a list of fractions; give one such as 0.8 or 0.5,0.8,0.9"
        ) from None


def _check_out(out: Path, fractions: list[float]) -> None:
    if len(fractions) > 1:
        raise UsageError(
            f"--out {out} takes one network, but --prune names {len(fractions)} fractions; "
            "choose one"
        )
    if not is_model_file(out):
        raise UsageError(f"--out {out}: a model's name ends with {SUFFIX}")


def _cells(row: CompressionResult, original: CompressionResult, itemsize: int) -> tuple[str, ...]:
    return (
        "" if row.pruned is None else f"{row.pruned:.4g}",
        f"{row.bits or 8 * itemsize}",
        f"{row.nonzero:,}",
        f"{row.bytes:,}",
        f"{row.bytes / original.bytes:.1%}",
        _percent(row.accuracy),
        f"{row.loss:.4f}",
        _percent(row.agreement),
    )


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.2%}"
