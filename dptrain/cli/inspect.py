"""``dptrain inspect``."""

import math
from typing import Any

from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.cli.completion import RunPath
from dptrain.cli.output import print_json
from dptrain.experiment.files import plain
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.records import EndRecord, EpochRecord, end_of, result_of
from dptrain.nn.network import Network
from dptrain.own.network import OwnNetwork
from dptrain.report.observers import epoch_line
from dptrain.report.tables import end_line, print_table
from dptrain.runfolder import RunFolder
from dptrain.trained import TrainedNetwork, load_run
from dptrain.weights.model_file import is_model_file


def inspect(run: RunPath, /, *, json: bool = False) -> int:
    """Show a run's network, its experiment and how far it has come.

    Args:
        run: A run folder, or a model that compress or convert wrote.
        json: Print the result as one JSON object.
    """
    trained, saved = load_run(run, "last")
    path, records = run, []
    if not is_model_file(run):
        folder = RunFolder.open(run)
        path, records = folder.path, read_metrics(folder.metrics)
    newest, end = result_of(records), end_of(records)
    layers = _layers(trained.network)
    if json:
        print_json(
            {
                "run": str(path),
                "layers": layers,
                "parameters": trained.network.size,
                "experiment": plain(trained.experiment),
                "step": saved.step,
                "epoch": saved.epoch,
                "digest": saved.digest,
                "last_epoch": _plain_epoch(newest) if newest else None,
            }
        )
        return 0
    _print_network(layers, trained.network)
    rows = [(key, str(value)) for key, value in plain(trained.experiment).items()]
    print_table("experiment", rows)
    print_table("progress", _progress(trained, saved, newest, end))
    return 0


def _layers(network: Network | OwnNetwork) -> list[dict[str, Any]]:
    if isinstance(network, OwnNetwork):  # whose code is not imported: its tensors tell enough
        return [
            {
                "name": t.name,
                "input_shape": None,
                "output_shape": None,
                "parameters": {t.name: list(t.shape)},
                "size": t.stop - t.start,
            }
            for t in network.all_tensors()
        ]
    shapes = network.shapes
    return [
        {
            "name": name,
            "input_shape": list(shapes[i]),
            "output_shape": list(shapes[i + 1]),
            "parameters": {t.name.split(".")[1]: list(t.shape) for t in tensors},
            "size": sum(math.prod(t.shape) for t in tensors),
        }
        for i, (name, tensors) in enumerate(zip(network.names, network.tensors, strict=True))
    ]


def _print_network(layers: list[dict[str, Any]], network: Network | OwnNetwork) -> None:
    rows = [
        (
            layer["name"],
            _shape(layer["input_shape"]),
            _shape(layer["output_shape"]),
            ", ".join(f"{name} {_shape(shape)}" for name, shape in layer["parameters"].items()),
            f"{layer['size']:,}" if layer["size"] else "",
        )
        for layer in layers
    ]
    rows.append(("total", "", "", "", f"{network.size:,}"))
    print_table("network", rows, ("layer", "input", "output", "parameters", "count"))


def _shape(shape: list[int] | None) -> str:
    return "x".join(map(str, shape or []))


def _progress(
    trained: TrainedNetwork,
    saved: Checkpoint,
    newest: EpochRecord | None,
    end: EndRecord | None,
) -> list[tuple[str, str]]:
    e = trained.experiment
    goal = f"{e.epochs} epochs" if e.epochs else f"{e.steps:,} steps"
    rows = [("step", f"{saved.step:,}, epoch {saved.epoch}, of {goal}"), ("digest", saved.digest)]
    if newest:
        rows.append(("best" if end else "newest", epoch_line(newest)))
    if end:
        rows.append(("ended", end_line(end)))
    return rows


def _plain_epoch(record: EpochRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
