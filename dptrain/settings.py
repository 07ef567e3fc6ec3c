"""The settings of `dptrain.fit`, for type checkers and editors."""

from pathlib import Path
from typing import Literal, TypedDict

from dptrain.experiment.exchanges import ExchangeName
from dptrain.experiment.setting_types import (
    Dtype,
    LossName,
    NormaliseName,
    OptimizerName,
    ScheduleName,
    TaskName,
)
from dptrain.result import Result


class Settings(TypedDict, total=False):
    """The keyword arguments of `fit` that are fields of `Experiment` or `Execution`."""

    normalise: NormaliseName
    normalise_targets: Literal["none", "standard"]
    loss: LossName
    init_from: str | Path | Result
    freeze: list[str]
    label_smoothing: float
    class_weights: list[float] | dict[int, float] | Literal["balanced"]
    positive_weight: float
    huber_delta: float
    task: TaskName
    validation: float
    test: float
    train_rows: int
    augment_shift: int
    augment_rotate: float
    augment_noise: float
    batch_size: int
    shards: int
    epochs: int
    steps: int
    gradient: Literal["backprop", "numerical"]
    patience: int
    min_improvement: float
    optimizer: OptimizerName
    lr: float
    momentum: float
    decay: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    l1: float
    decayed: list[str]
    clip_norm: float
    schedule: ScheduleName
    warmup: int
    decay_rate: float
    decay_every: int
    seed: int
    dtype: Dtype
    workers: int | Literal["auto"]
    exchange: ExchangeName
    transport: Literal["ipc", "tcp"]
    trace: bool
    worker_timeout: float
    log_every: int
    checkpoint_every: int
    keep_checkpoints: bool
    record_digests: bool
