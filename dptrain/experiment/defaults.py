"""Filling in what the user left open, and refusing combinations that do not work."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dptrain.arithmetic.shards import default_shards
from dptrain.data.csv_header import TableForm
from dptrain.data.scale import Scale
from dptrain.errors import UsageError
from dptrain.experiment.models import SUITABLE_INIT, preset_of, settled_model
from dptrain.experiment.own_code import only_for_code, settled_own
from dptrain.experiment.schema import (
    LOSS_FIELDS,
    MODEL_FIELDS,
    OWN_LAYERS,
    RULE_FIELDS,
    Experiment,
    Settled,
)
from dptrain.nn.losses import LOSSES
from dptrain.optim.rules import RULES
from dptrain.own.origin import is_own

DEFAULT_EPOCHS = 8
DEFAULT_BATCH = 100
DECAY_RATES = {"step": 0.5, "exponential": 0.95}


def settle(
    experiment: Experiment,
    workers: int,
    classes: int,
    train_rows: int,
    digest: str,
    targets: int = 1,
    form: TableForm | None = None,
    scale: Scale | None = None,
) -> Settled:
    """Return the experiment with every default that decides a number written down.

    Args:
        experiment: as the user gave it.
        workers: of the execution; the default number of shards is at least this.
        classes: of the data set, 0 for regression.
        train_rows: of the data set, after holding out validation rows.
        digest: of the data set.
        targets: values to predict for a row, in a regression.
        form: how the data set was understood, where it is a CSV.
        scale: of the inputs.

    Raises:
        UsageError: settings that exclude each other or do not fit the data.
    """
    preset = preset_of(experiment.model) if experiment.layers is None else {}
    filled: dict[str, Any] = {
        "dataset_digest": digest,
        "input_scale": scale,
        "target_scale": None,  # taken from the training rows by the job
        **_settled_form(experiment, form),
    }
    own = is_own(experiment.model) and experiment.layers is None
    if own:
        filled |= settled_own(experiment)
    else:
        filled |= _settled_network(experiment, preset, classes, targets)
    filled |= _settled_rule(experiment, preset)
    if experiment.decayed is not None and not (filled["weight_decay"] or experiment.l1):
        raise UsageError(
            f"decayed={experiment.decayed} means nothing without --weight-decay or --l1; give one"
        )
    filled |= _settled_schedule(experiment)
    _check_patience(experiment)
    if experiment.epochs is not None and experiment.steps is not None:
        raise UsageError(
            f"epochs={experiment.epochs} and steps={experiment.steps} exclude each other; give one"
        )
    if experiment.epochs is None and experiment.steps is None:
        filled["epochs"] = preset.get("epochs", DEFAULT_EPOCHS)
    filled["batch_size"] = experiment.batch_size or min(DEFAULT_BATCH, train_rows)
    if filled["batch_size"] > train_rows:
        raise UsageError(
            f"batch_size={experiment.batch_size} is more than the {train_rows} training rows; "
            f"give --batch-size {train_rows} or less"
        )
    filled["shards"] = _settled_shards(experiment, workers, own=own)
    return Settled(**msgspec.structs.asdict(experiment) | filled)


def _settled_form(experiment: Experiment, form: TableForm | None) -> dict[str, Any]:
    if form is None:
        return {}
    chosen = experiment.columns is not None or form.row_weights is not None
    named = form.header or chosen  # without names: all but the label
    return {
        "label": form.label or None,
        "columns": list(form.columns) if named else None,
        "header": form.header,
        "row_weights": form.row_weights,
    }


def _settled_network(
    experiment: Experiment, preset: dict[str, Any], classes: int, targets: int
) -> dict[str, Any]:
    """Return what is filled in of the network and its loss, where they are dptrain's."""
    if given := only_for_code(experiment):
        raise UsageError(f"{given} is for a network of your own; give --model FILE.py:NAME as well")
    if experiment.class_weights == "balanced":
        raise UsageError("class_weights='balanced' needs rows to count; give numbers")
    loss = experiment.loss or ("softmax-cross-entropy" if classes else "sum-of-squares")
    if experiment.normalise_targets != "none" and not (classes or LOSSES[loss].any_scale):
        raise UsageError(
            f"normalise_targets={experiment.normalise_targets} leaves no targets that {loss} is "
            f"for; use --loss {' or '.join(name for name in LOSSES if LOSSES[name].any_scale)}"
        )
    filled: dict[str, Any] = {"loss": loss}
    if experiment.layers is not None:
        filled["model"] = OWN_LAYERS
        _refuse(experiment, MODEL_FIELDS, "layers that are given one by one")
    else:
        filled["model"] = settled_model(experiment.model, loss, classes, targets)
        activation = experiment.activation or preset.get("activation", "relu")
        filled["activation"] = activation
        filled["init"] = experiment.init or preset.get("init", SUITABLE_INIT[activation])
        if filled["init"] == "normal":
            filled["init_std"] = 0.01 if experiment.init_std is None else experiment.init_std
        elif experiment.init_std is not None:
            raise UsageError(f"init_std is for init normal, not for init {filled['init']}")
    return filled | _own_settings(experiment, "loss", loss, LOSSES, LOSS_FIELDS)


def _refuse(experiment: Experiment, fields: tuple[str, ...], what: str) -> None:
    for field in fields:
        if getattr(experiment, field) is not None:
            raise UsageError(
                f"{field}={getattr(experiment, field)} means nothing to {what}; leave it out"
            )


def _settled_rule(experiment: Experiment, preset: dict[str, Any]) -> dict[str, Any]:
    optimizer = experiment.optimizer or preset.get("optimizer", "adam")
    own = preset.get("lr") if optimizer == preset.get("optimizer") else None
    decay = experiment.weight_decay
    return {
        "optimizer": optimizer,
        "lr": experiment.lr or own or RULES[optimizer].default_lr,
        "weight_decay": RULES[optimizer].default_decay if decay is None else decay,
    } | _own_settings(experiment, "optimizer", optimizer, RULES, RULE_FIELDS)


def _own_settings(
    experiment: Experiment,
    what: str,
    name: str,
    kinds: Mapping[str, type[msgspec.Struct]],
    fields: tuple[str, ...],
) -> dict[str, Any]:
    """Return the settings of one kind of loss or optimizer; refuse those of other kinds."""
    chosen = kinds[name]()
    filled: dict[str, Any] = {}
    for field in fields:
        given = getattr(experiment, field)
        if field in chosen.__struct_fields__:
            filled[field] = getattr(chosen, field) if given is None else given
        elif given is not None:
            users = [each for each, kind in kinds.items() if field in kind.__struct_fields__]
            raise UsageError(
                f"{field}={given} means nothing to {what} {name}; it is for " + ", ".join(users)
            )
    return filled


def _settled_schedule(experiment: Experiment) -> dict[str, Any]:
    schedule = experiment.schedule
    if schedule in DECAY_RATES:
        return {"decay_rate": experiment.decay_rate or DECAY_RATES[schedule]}
    for field in ("decay_rate", "decay_every"):
        if getattr(experiment, field) is not None:
            raise UsageError(
                f"{field}={getattr(experiment, field)} means nothing to schedule {schedule}; "
                "it is for step and exponential"
            )
    return {}


def _check_patience(experiment: Experiment) -> None:
    patience, gain = experiment.patience, experiment.min_improvement
    if patience is not None and not experiment.validation:
        raise UsageError(
            f"patience={patience} goes by the score of validation rows, of which there are none; "
            "hold some out with --validation 0.1"
        )
    if patience is None and gain:
        raise UsageError(
            f"min_improvement={gain} means nothing without patience; add --patience 5, or leave "
            "it out"
        )


def _settled_shards(experiment: Experiment, workers: int, *, own: bool) -> int:
    shards = experiment.shards
    if shards is None:
        return default_shards(workers)
    if workers > shards and not own:  # of one's own, the minibatch may be a single shard by need
        raise UsageError(
            f"workers={workers} needs at least {workers} shards, but this experiment has "
            f"shards={shards}; use --workers {shards}, or start anew with --shards {workers}"
        )
    return shards
