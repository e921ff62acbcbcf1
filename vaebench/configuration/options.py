"""Lightning's Trainer options: supported, translated, and refused ones with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTED = frozenset({
    "max_epochs", "min_epochs", "max_steps", "min_steps", "limit_train_batches", "limit_val_batches", "fast_dev_run",
    "accumulate_grad_batches",
})  # fmt: skip
"""Translated to a `TrainingBudget`."""

PASSED = frozenset({
    "accelerator", "devices", "strategy", "num_nodes", "precision", "callbacks", "max_time", "check_val_every_n_epoch",
    "num_sanity_val_steps", "deterministic", "benchmark", "inference_mode", "detect_anomaly", "profiler",
    "default_root_dir", "enable_model_summary", "logger", "log_every_n_steps",
})  # fmt: skip
"""Passed to Lightning, where they work with manual optimisation; some of their values are refused below."""

REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "enable_checkpointing": ((None, False), "vaebench saves last.ckpt and model.ckpt; leave it out"),
    "enable_progress_bar": ((None, False), "vaebench draws a bar of its own; leave it out"),
    "enable_autolog_hparams": ((True,), "settings are logged by vaebench; leave it out"),
    "model_registry": ((None,), "checkpoints are the suite's own; leave it out"),
    "val_check_interval": ((None, 1.0), "validation ends an epoch; make epochs shorter with limit_train_batches"),
    "overfit_batches": ((0,), "it would validate on training images; use limit_train_batches"),
    "limit_test_batches": ((None, 1.0), "training reads no test image; use `vaebench evaluate --limit`"),
    "limit_predict_batches": ((None, 1.0), "training predicts nothing; leave it out"),
    "gradient_clip_val": ((None, 0), "each parameter group is clipped alone; set model.clip, the largest norm"),
    "gradient_clip_algorithm": ((None,), "gradients are clipped by their norm; set model.clip"),
    "use_distributed_sampler": ((True,), "the data module gives each process its share of the images; leave it out"),
    "reload_dataloaders_every_n_epochs": ((0,), "images lie in memory and change with every epoch; leave it out"),
    "sync_batchnorm": ((False,), "no network here normalises over a batch; leave it out"),
    "barebones": ((False,), "nothing would be validated or saved; leave it out"),
    "plugins": ((None, []), "the suite was not tried with any; set trainer.precision or trainer.strategy"),
}
"""Unsupported options: their neutral values, and why others are refused, with a remedy."""

COSMETIC = frozenset({
    "logger", "default_root_dir", "profiler", "log_every_n_steps", "enable_progress_bar", "enable_model_summary",
    "enable_checkpointing",
})  # fmt: skip
"""Options without effect on the training, which are not part of a run's identity."""

RECORDED = (COUNTED | PASSED | REFUSED.keys()) - COSMETIC
"""Options in records; none names a path or a logger."""
