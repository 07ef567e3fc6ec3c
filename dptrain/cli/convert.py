"""``dptrain convert``."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dptrain.checkpoint.atomic import atomic_write
from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.cli.completion import RunPath
from dptrain.cli.experiments import read_experiment
from dptrain.cli.output import note, print_json
from dptrain.conversion import book_params, dense_experiment, network_from
from dptrain.data.pickled import PICKLES
from dptrain.errors import EXIT_CHECK_FAILED, DataError, UsageError
from dptrain.experiment.models import ACTIVATIONS
from dptrain.experiment.schema import Experiment
from dptrain.experiment.setting_types import ActivationName
from dptrain.experiment.validate import build
from dptrain.invocation import install
from dptrain.nn.network import Network
from dptrain.own.origin import is_own
from dptrain.report.banner import network_line
from dptrain.trained import TrainedNetwork, load_run
from dptrain.weights.book import book_tensors, command_for
from dptrain.weights.model_file import SUFFIX, holds_model, save_model
from dptrain.weights.params import load_params, save_params

if TYPE_CHECKING:  # needs onnx, which is an extra
    from dptrain.onnx_export.check import OnnxComparison

ONNX = ".onnx"
TARGETS = (SUFFIX, *PICKLES, ONNX)


def convert(
    source: RunPath,
    target: Path,
    /,
    *,
    activation: ActivationName | None = None,
    model: str | None = None,
    dataset: str | None = None,
    checkpoint: Literal["last", "best"] = "last",
    json: bool = False,
) -> int:
    """Write trained weights in another format, chosen by the target's name.

    MODEL.npz is a model that evaluate, predict, inspect and compress accept like a run; np.load
    reads its arrays. PARAMS.pkl is a dict of arrays W1, b1, W2, b2 as in the programs of the book
    "Deep Learning from Scratch", which load it with pickle; a run of a network of your own becomes
    a dict of its params. Sources in that form, .pkl or .npz, are read without running anything in
    them.
    Dense networks need --activation, convolutional ones --model. What the book stores in another
    way (filters, flattened images, the factor of dropout) is converted, with a note. MODEL.onnx is
    for other programs; it is run on test rows with onnxruntime, and the difference is printed: exit
    code 3 if it is more than rounding. Its input is not scaled: the unit is printed, and recorded
    in the model.

    Args:
        source: A run folder, a model, or a file of the book's, such as sample_weight.pkl.
        target: The file to write, replacing an older one.
        activation: Between the layers of a source that does not tell it; for sample_weight.pkl
            sigmoid.
        model: The network of such a source: an experiment, such as examples/conv.toml for the
            params.pkl of chapter 7 and examples/deep-conv.toml for that of chapter 8.
        dataset: What such a source was trained on; unless given mnist, or what the experiment says.
        checkpoint: The newest weights of a run, or those with the best score.
        json: Print the result as one JSON object.
    """
    suffix = target.suffix.lower()
    if suffix not in TARGETS:
        raise UsageError(f"{target}: names of what can be written end with {', '.join(TARGETS)}")
    if _holds_params(source):
        trained, saved = _from_params(source, activation, model, dataset)
    elif any(given is not None for given in (activation, model, dataset)):
        raise UsageError(f"{source} tells its network and data; leave out such options")
    else:
        trained, saved = load_run(source, checkpoint)
    comparison = None
    if suffix in PICKLES:
        save_params(target, book_params(trained))
    elif suffix == ONNX:
        comparison = _export(target, trained)
    else:
        trained.layered(f"a model for {target}")
        save_model(target, saved, {})
    if json:
        result = {"source": str(source), "target": str(target), "digest": saved.digest}
        print_json(result | ({} if comparison is None else comparison._asdict()))
    else:
        network = trained.network
        size = f"{network.size:,} parameters"
        print(f"{target}: {network_line(network)}, {size}")  # noqa: T201 - the result
        if isinstance(network, Network) and (suffix in PICKLES or _holds_params(source)):
            for line in filter(None, (each.difference() for each in book_tensors(network))):
                print(f"  {line}")  # noqa: T201
        if comparison is not None:
            print(comparison)  # noqa: T201
    return 0 if comparison is None or comparison.agrees else EXIT_CHECK_FAILED


def _export(target: Path, trained: TrainedNetwork) -> "OnnxComparison":
    try:
        from dptrain.onnx_export.check import compared
        from dptrain.onnx_export.model import input_text, onnx_model
    except ImportError as error:
        raise UsageError(
            f"{target}: to write ONNX the package {error.name} is needed; install dptrain with its "
            "extra: " + install("onnx")
        ) from None
    model = onnx_model(trained).SerializeToString(deterministic=True)
    atomic_write(target, model)
    note(f"{target} takes: {input_text(trained)}")
    return compared(model, trained)


def _holds_params(source: Path) -> bool:
    suffix = "" if source.is_dir() else source.suffix.lower()
    return suffix in PICKLES or (suffix == SUFFIX and not holds_model(source))


def _from_params(
    source: Path, activation: ActivationName | None, model: str | None, dataset: str | None
) -> tuple[TrainedNetwork, Checkpoint]:
    params = load_params(source)
    if model is not None and activation is not None:
        raise UsageError(f"{model} tells its activation; leave out --activation")
    try:
        if model is not None:
            return network_from(params, _described(model, dataset))
        if activation is None:
            what = (
                "the layers that its arrays belong to; name an experiment that has them: "
                if any(array.ndim == 4 for array in params.values())
                else f"what stands between its layers; give --activation, one of "
                f"{', '.join(ACTIVATIONS)}: "
            )
            raise UsageError(f"{source} does not tell {what}{command_for(source, params)}")
        return network_from(params, dense_experiment(params, activation, dataset or "mnist"))
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _described(model: str, dataset: str | None) -> Experiment:
    """Return the experiment in a file, with another data set where one is given."""
    if not model.endswith(".toml"):
        raise UsageError(
            f"model={model!r} must be a file with an experiment, such as examples/conv.toml; for "
            "dense layers alone give --activation instead"
        )
    settings = read_experiment(Path(model))["experiment"]
    if dataset is not None:
        settings["dataset"] = dataset
    experiment = build(Experiment, settings, model)
    if is_own(experiment.model) and experiment.layers is None:
        raise UsageError(f"{model}: its network is code; name an experiment with layers")
    return experiment
