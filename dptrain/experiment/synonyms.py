"""What settings and values are called in other libraries, and what dptrain has instead."""

from collections.abc import Collection

from dptrain.errors import suggestion

_CALLED: dict[str, str] = {
    "lr": "learning_rate learning_rate_init eta eta0 step_size alpha_lr",
    "batch_size": "batch batches minibatch mini_batch minibatch_size mini_batch_size",
    "epochs": "epoch num_epochs n_epochs max_epochs nb_epoch n_epoch max_iter",
    "steps": "step iterations iters iters_num num_steps n_steps max_steps num_iterations",
    "validation": "validation_split val_split val_size val_fraction validation_fraction "
    "validation_size",
    "test": "test_size test_split test_fraction",
    "train_rows": "train_size limit max_rows",
    "seed": "random_state random_seed rng manual_seed",
    "loss": "criterion objective loss_fn loss_function cost",
    "optimizer": "solver optim optimiser",
    "class_weights": "class_weight",
    "positive_weight": "pos_weight scale_pos_weight",
    "weight_decay": "l2 l2_reg l2_lambda alpha wd weight_decay_lambda lambda regularization",
    "l1": "l1_reg l1_lambda",
    "schedule": "scheduler lr_scheduler lr_schedule",
    "decay_rate": "gamma lr_decay",
    "decay_every": "step_every decay_steps",
    "warmup": "warmup_steps num_warmup_steps",
    "patience": "early_stopping n_iter_no_change early_stopping_patience",
    "min_improvement": "tol min_delta",
    "clip_norm": "clipnorm max_norm max_grad_norm grad_clip clip_grad clip_grad_norm "
    "gradient_clip_val",
    "workers": "n_jobs num_workers n_workers processes num_processes nproc world_size",
    "dropout": "drop dropout_rate dropout_ratio dropout_ration",
    "normalise": "normalize normalization normalisation standardize standardise scaler",
    "normalise_targets": "normalize_targets standardize_targets standardise_targets scale_targets "
    "target_scaler y_scaler normalise_target normalize_target",
    "init_std": "weight_init_std",
    "dtype": "precision",
    "label": "target labels target_column label_column label_col target_name",
    "columns": "features feature_columns feature_names usecols",
    "dataset": "data dataset_path data_path",
    "out": "output_dir out_dir log_dir logdir save_dir output",
    "resume": "resume_from resume_from_checkpoint ckpt_path",
    "init_from": "pretrained weights load_from warm_start initial_weights",
    "log_every": "log_interval log_steps logging_steps",
    "checkpoint_every": "save_steps save_every",
    "label_smoothing": "smoothing",
    "decay": "rho",
    "epsilon": "eps",
    "beta1": "beta_1",
    "beta2": "beta_2",
}
_SYNONYMS = {word: name for name, words in _CALLED.items() for word in words.split()}

_CURVES = "metrics.jsonl in the run folder has a line for every epoch, and dptrain plot draws them"
_CALLBACK = "dptrain.fit(..., on_epoch=FUNCTION) calls a function with every epoch's record"
_JUDGED = (
    "every epoch records loss and accuracy (or R²) of every split in metrics.jsonl, and dptrain "
    "evaluate tells precision, recall and F1"
)
_CPU = "dptrain computes on CPUs, by as many workers as are given"
_ROWS = (
    "dptrain.fit takes sample_weight, one number for each row, and a table has a column of them, "
    "named with --row-weights"
)
_HELD_OUT = (
    "hold rows out with --validation 0.1, or give others as test_data to dptrain.fit; an .npz may "
    "hold x_test and t_test"
)
_SIZES = "the model has the sizes, such as --model mlp:784-100-10"
_SHOWN = "progress goes to standard error: 2>/dev/null hides it, in Python progress=False"
_INSTEAD = {
    "shuffle": "every epoch draws the rows in a new order, by seed",
    "drop_last": "the last minibatch of an epoch has the rows that are left over",
    "callbacks": _CALLBACK,
    "callback": _CALLBACK,
    "metrics": _JUDGED,
    "metric": _JUDGED,
    "scoring": _JUDGED,
    "sample_weight": _ROWS,
    "sample_weights": _ROWS,
    "sample_weight_column": _ROWS,
    "weight_column": _ROWS,
    "validation_data": _HELD_OUT,
    "eval_set": _HELD_OUT,
    "test_dataset": _HELD_OUT,
    "betas": "give --beta1 and --beta2",
    "verbose": _SHOWN,
    "verbosity": _SHOWN,
    "quiet": _SHOWN,
    "silent": _SHOWN,
    "device": _CPU,
    "gpu": _CPU,
    "gpus": _CPU,
    "cuda": _CPU,
    "tensorboard": _CURVES,
    "wandb": _CURVES,
    "hidden": _SIZES,
    "hidden_size": _SIZES,
    "hidden_sizes": _SIZES,
    "hidden_layer_sizes": _SIZES,
    "hidden_units": _SIZES,
    "layer_sizes": _SIZES,
    "units": _SIZES,
    "num_layers": _SIZES,
}

_VALUE_CALLED = {
    "loss": {
        "softmax-cross-entropy": "cross-entropy crossentropy crossentropyloss ce nll nllloss "
        "categorical-crossentropy sparse-categorical-crossentropy log-loss logloss softmax",
        "binary-cross-entropy": "bce bceloss bcewithlogitsloss binary-crossentropy logistic",
        "mean-squared-error": "mse mseloss squared-error squared mean-square-error",
        "sum-of-squares": "sse sum-squared-error sum-squares-error",
        "huber": "smooth-l1 smooth-l1-loss smoothl1loss huberloss",
    },
    "activation": {
        "identity": "none linear no",
        "sigmoid": "logistic logsig",
        "leaky-relu": "lrelu leaky",
        "relu": "rectifier",
        "silu": "swish",
    },
    "optimizer": {"momentum": "sgdm sgd-momentum", "nesterov": "nag"},
    "norm": {"batch": "batchnorm bn batch-norm", "layer": "layernorm ln layer-norm"},
    "init": {"he": "kaiming he-normal kaiming-normal", "xavier": "glorot-normal xavier-normal"},
    "dtype": {"float64": "double fp64 f64", "float32": "single float fp32 f32"},
    "schedule": {
        "cosine": "cosine-annealing cosineannealing cosineannealinglr",
        "exponential": "exponentiallr exp",
    },
    "normalise": {"standard": "z-score zscore std", "minmax": "min-max range"},
}
_VALUES = {
    setting: {word: value for value, words in meanings.items() for word in words.split()}
    for setting, meanings in _VALUE_CALLED.items()
}
_NO_VALUE = {
    ("activation", "softmax"): "softmax is part of the loss; leave it out between the layers",
}


def meant(word: str, prefix: str = "") -> str:
    """Return a hint for a word of another library, such as ``it is called lr here``.

    ``""`` where the word is not known.

    Args:
        word: a setting or a flag.
        prefix: ``--`` for flags, else empty.
    """
    key = word.lstrip("-").replace("-", "_").lower()
    name = _SYNONYMS.get(key)
    if name is None:
        return _INSTEAD.get(key, "")
    return f"it is called {prefix}{name.replace('_', '-') if prefix else name} here"


def unknown_value(shown: str, setting: str, value: str, choices: Collection[str]) -> str:
    """Return a message for an unknown value: which one may be meant, and which there are.

    Args:
        shown: the setting and the value as the user gave them.
        setting: its name.
        value: perhaps a word of another library.
        choices: the known values.
    """
    word = value.casefold().replace("_", "-")
    near = _VALUES.get(setting, {}).get(word, value)
    hint = _NO_VALUE.get((setting, word), "")
    hint = f"; {hint};" if hint else suggestion(near, choices) or ";"
    return f"{shown} is unknown{hint} choose from: {', '.join(choices)}"
