"""Filling in what the user left open, and refusing what does not go together."""

from typing import Any

import msgspec
import psutil

from dptrain.arithmetic.shards import default_shards
from dptrain.errors import UsageError
from dptrain.experiment.models import PRESETS, SUITABLE_INIT, sizes
from dptrain.experiment.schema import Execution, Experiment
from dptrain.optim.rules import DEFAULT_LR, RULES

DEFAULT_EPOCHS = 5
DEFAULT_WORKERS = 2
DECAY_RATES = {"step": 0.5, "exponential": 0.95}
# Settings that mean something for one kind of optimizer only.
RULE_FIELDS = ("momentum", "decay", "beta1", "beta2", "epsilon")


def settle(
    experiment: Experiment, workers: int, classes: int, train_rows: int, digest: str
) -> Experiment:
    """Return the experiment with every default that decides a number written down.

    Args:
        experiment: as the user gave it.
        workers: of the execution; the default number of shards is at least this.
        classes: of the data set, 0 for regression.
        train_rows: of the data set, after holding out validation rows.
        digest: of the data set.

    Raises:
        UsageError: settings that exclude each other or do not fit the data.
    """
    preset = PRESETS.get(experiment.model, {}) if experiment.layers is None else {}
    filled: dict[str, Any] = {"dataset_digest": digest}
    if experiment.layers is None:
        sizes(experiment.model)
        activation = experiment.activation or preset.get("activation", "relu")
        filled["activation"] = activation
        filled["init"] = experiment.init or preset.get("init", SUITABLE_INIT[activation])
        if filled["init"] == "normal":
            filled["init_std"] = 0.01 if experiment.init_std is None else experiment.init_std
        elif experiment.init_std is not None:
            raise UsageError(f"init_std is for init normal, not for init {filled['init']}")
    filled["loss"] = experiment.loss or ("softmax-cross-entropy" if classes else "sum-of-squares")
    filled |= _settled_rule(experiment, preset)
    filled |= _settled_schedule(experiment)
    if experiment.epochs is not None and experiment.steps is not None:
        raise UsageError(
            f"epochs={experiment.epochs} and steps={experiment.steps} exclude each other; give one"
        )
    if experiment.epochs is None and experiment.steps is None:
        filled["epochs"] = DEFAULT_EPOCHS
    if experiment.batch_size > train_rows:
        raise UsageError(
            f"batch_size={experiment.batch_size} is more than the {train_rows} training rows; "
            f"give --batch-size {train_rows} or less"
        )
    filled["shards"] = _settled_shards(experiment, workers)
    return msgspec.structs.replace(experiment, **filled)


def _settled_rule(experiment: Experiment, preset: dict[str, Any]) -> dict[str, Any]:
    optimizer = experiment.optimizer or preset.get("optimizer", "adam")
    own = preset.get("lr") if optimizer == preset.get("optimizer") else None
    rule = RULES[optimizer]()
    filled: dict[str, Any] = {
        "optimizer": optimizer,
        "lr": experiment.lr or own or DEFAULT_LR[optimizer],
    }
    for field in RULE_FIELDS:
        given = getattr(experiment, field)
        if field in rule.__struct_fields__:
            filled[field] = getattr(rule, field) if given is None else given
        elif given is not None:
            users = [name for name, each in RULES.items() if field in each.__struct_fields__]
            raise UsageError(
                f"{field}={given} means nothing to optimizer {optimizer}; it is for "
                + ", ".join(users)
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


def _settled_shards(experiment: Experiment, workers: int) -> int:
    shards = experiment.shards
    if shards is None:
        return default_shards(workers)
    if workers > shards:
        raise UsageError(
            f"workers={workers} needs at least {workers} shards, but this experiment has "
            f"shards={shards}; use --workers {shards}, or start anew with --shards {workers}"
        )
    return shards


def settle_execution(execution: Execution, shards: int | None) -> Execution:
    """Return the execution with the number of workers and the exchange decided.

    Raises:
        UsageError: settings that exclude each other.
    """
    exchange = execution.exchange
    workers = _settled_workers(execution, shards)
    if exchange is None:
        exchange = "inline" if workers == 1 and not execution.join else "star"
    if exchange == "inline" and workers > 1:
        raise UsageError(
            f"exchange inline runs in one process, not with workers={workers}; use --workers 1 "
            "or --exchange star"
        )
    if execution.join > workers:
        raise UsageError(f"join={execution.join} is more than workers={workers}")
    if exchange == "inline" and (execution.join or execution.listen):
        raise UsageError("exchange inline has no workers to wait for; use --exchange star")
    listen = execution.listen
    if listen is not None:
        _check_listen(listen)
    transport = "tcp" if execution.join or (listen or "").startswith("tcp") else execution.transport
    return msgspec.structs.replace(
        execution, workers=workers, exchange=exchange, transport=transport
    )


def _settled_workers(execution: Execution, shards: int | None) -> int:
    inline = execution.exchange == "inline"
    if execution.workers is None:
        return 1 if inline else DEFAULT_WORKERS
    if execution.workers == "auto":
        return 1 if inline else min(psutil.cpu_count() or 1, shards or default_shards(1))
    return execution.workers


LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def _check_listen(listen: str) -> None:
    host, colon, port = listen.removeprefix("tcp://").rpartition(":")
    if not listen.startswith("tcp://") or not colon or not port.isdigit():
        raise UsageError(f"listen={listen!r} is no address; give one like tcp://127.0.0.1:5555")
    if not 1 <= int(port) <= 65535:
        raise UsageError(f"listen={listen!r}: the port must be 1 to 65535")
    if host not in LOOPBACK:
        raise UsageError(
            f"listen={listen!r} is beyond this machine; gradients are not encrypted, so only "
            f"{', '.join(LOOPBACK)} can be listened on"
        )
