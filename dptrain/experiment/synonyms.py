"""The words of other libraries for settings, and what there is for those that have none."""

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
    "progress": "verbose",
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
_ROWS = "rows have no weights of their own; class_weights are for classes"
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
    "row_weights": _ROWS,
    "validation_data": "hold rows out with validation, or give others as test_data to dptrain.fit",
    "eval_set": "hold rows out with validation, or give others as test_data to dptrain.fit",
    "betas": "give beta1 and beta2",
    "device": _CPU,
    "gpu": _CPU,
    "gpus": _CPU,
    "cuda": _CPU,
    "tensorboard": _CURVES,
    "wandb": _CURVES,
    "hidden_layer_sizes": "the model has the sizes, such as mlp:784-100-10",
    "hidden": "the model has the sizes, such as mlp:784-100-10",
    "layer_sizes": "the model has the sizes, such as mlp:784-100-10",
}


def meant(word: str, prefix: str = "") -> str:
    """Return what there is for a word of another library, such as ``it is called lr here``.

    ``""`` where the word is not known.

    Args:
        word: a setting or a flag.
        prefix: ``--`` where flags are asked for.
    """
    key = word.lstrip("-").replace("-", "_").lower()
    name = _SYNONYMS.get(key)
    if name is None:
        return _INSTEAD.get(key, "")
    return f"it is called {prefix}{name.replace('_', '-') if prefix else name} here"
