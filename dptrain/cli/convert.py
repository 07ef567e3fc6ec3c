"""``dptrain convert``."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dptrain.checkpoint.atomic import atomic_write
from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.cli.output import print_json
from dptrain.conversion import book_params, network_from
from dptrain.errors import EXIT_CHECK_FAILED, DataError, UsageError
from dptrain.experiment.models import ACTIVATIONS
from dptrain.experiment.schema import ActivationName
from dptrain.report.banner import network_line
from dptrain.trained import TrainedNetwork, load_run
from dptrain.weights.model_file import SUFFIX, holds_model, save_model
from dptrain.weights.params import PICKLES, load_params, save_params

if TYPE_CHECKING:  # needs onnx, which is an extra
    from dptrain.onnx_export.check import Comparison

ONNX = ".onnx"
TARGETS = (SUFFIX, *PICKLES, ONNX)


def convert(
    source: Path,
    target: Path,
    /,
    *,
    activation: ActivationName | None = None,
    dataset: str | None = None,
    checkpoint: Literal["last", "best"] = "last",
    json: bool = False,
) -> int:
    """Write trained weights in another format, which the target's name tells.

    MODEL.npz is a model that evaluate, predict, inspect and compress take like a run; np.load reads
    its arrays. PARAMS.pkl is a dict of arrays W1, b1, W2, b2 as in the programs of the book "Deep
    Learning from Scratch", which load it with pickle. Sources in that form, .pkl or .npz, are read
    without running anything in them; they need --activation. MODEL.onnx is for other programs; it
    is run on test rows with onnxruntime, and the difference told: exit code 3 if that is more than
    rounding. Its input is not scaled: divide grey values by 255.

    Args:
        source: A run folder, a model, or a file of the book's, such as sample_weight.pkl.
        target: The file to write, replacing an older one.
        activation: Between the layers of a source that does not tell it; for sample_weight.pkl
            sigmoid.
        dataset: What such a source was trained on; mnist unless given.
        checkpoint: The newest weights of a run, or those with the best score.
        json: Print the result as one JSON object.
    """
    suffix = target.suffix.lower()
    if suffix not in TARGETS:
        raise UsageError(f"{target}: names of what can be written end with {', '.join(TARGETS)}")
    if _holds_params(source):
        trained, saved = _from_params(source, activation, dataset)
    elif activation is not None or dataset is not None:
        raise UsageError(f"{source} tells its activation and data; leave out such options")
    else:
        trained, saved = load_run(source, checkpoint)
    network = trained.layered(f"a model for {target}")
    comparison = None
    if suffix in PICKLES:
        save_params(target, book_params(trained))
    elif suffix == ONNX:
        comparison = _export(target, trained)
    else:
        save_model(target, saved, {})
    if json:
        result = {"source": str(source), "target": str(target), "digest": saved.digest}
        print_json(result | ({} if comparison is None else comparison._asdict()))
    else:
        size = f"{network.size:,} parameters"
        print(f"{target}: {network_line(network)}, {size}")  # noqa: T201 - the result
        if comparison is not None:
            print(comparison)  # noqa: T201
    return 0 if comparison is None or comparison.agrees else EXIT_CHECK_FAILED


def _export(target: Path, trained: TrainedNetwork) -> "Comparison":
    try:
        from dptrain.onnx_export.check import compared
        from dptrain.onnx_export.model import onnx_model
    except ImportError as error:
        raise UsageError(
            f"{target}: to write ONNX the package {error.name} is needed; install dptrain with its "
            "extra: pip install 'dptrain[onnx]'"
        ) from None
    model = onnx_model(trained).SerializeToString(deterministic=True)
    atomic_write(target, model)
    return compared(model, trained)


def _holds_params(source: Path) -> bool:
    suffix = source.suffix.lower()
    return suffix in PICKLES or (suffix == SUFFIX and not holds_model(source))


def _from_params(
    source: Path, activation: ActivationName | None, dataset: str | None
) -> tuple[TrainedNetwork, Checkpoint]:
    params = load_params(source)
    if activation is None:
        raise UsageError(
            f"{source} does not tell what stands between its layers; give --activation, one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    try:
        return network_from(params, activation, dataset or "mnist")
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
