"""The arguments that every TRL trainer shares, from a recipe: one place to know TRL's names."""

import math
import os
from typing import Any

import torch

from foundation.errors import BadInput
from trainer.lesson import Lesson
from trainer.recipe import AUTO, BF16, FP16, FP32, SFT_FULL, Recipe

LOGGED_STEPS = 200
"""About how many steps of a training are logged and reported."""


def shared(lesson: Lesson, n_rows: int, *, has_validation: bool) -> dict[str, Any]:
    """Return the keyword arguments of an `SFTConfig`, `DPOConfig` and the like that all take.

    Args:
        lesson: recipe and folder.
        n_rows: rows of one epoch.
        has_validation: whether there is a validation loss to look at.
    """
    recipe = lesson.recipe
    gpu = torch.cuda.is_available()
    precision = precision_of(recipe)
    rows_of_step = recipe.effective_batch_size * int(os.environ.get("WORLD_SIZE", 1))
    steps = recipe.max_steps or math.ceil(n_rows / rows_of_step) * recipe.epochs
    return {
        "output_dir": str(lesson.folder),
        "seed": recipe.seed,
        "learning_rate": recipe.lr,
        "lr_scheduler_type": recipe.scheduler,
        "warmup_steps": recipe.warmup,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation,
        # The default is True, which fails on a CPU without it.
        "bf16": precision == BF16,
        "fp16": precision == FP16,
        # Recomputing saves no memory that a CPU lacks, and costs a third of the time.
        "activation_checkpointing": recomputes(recipe),
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "eval_strategy": "steps" if has_validation else "no",
        "eval_steps": recipe.eval_steps,
        "save_strategy": "steps",
        "save_steps": recipe.eval_steps,
        "save_total_limit": 3,  # the best, the last, and one to go back to if that is damaged
        "metric_for_best_model": "eval_loss" if has_validation else None,
        "greater_is_better": False if has_validation else None,
        "load_best_model_at_end": has_validation,
        "restore_callback_states_from_checkpoint": True,  # else patience starts anew after a kill
        "logging_steps": max(1, int(steps / LOGGED_STEPS)),
        "logging_nan_inf_filter": False,
        "report_to": list(recipe.report_to) or "none",
        "disable_tqdm": True,
    }


def recomputes(recipe: Recipe) -> bool:
    """Whether activations are recomputed on this machine instead of being held."""
    return torch.cuda.is_available() and recipe.gradient_checkpointing


def weights_precision(recipe: Recipe) -> str:
    """Return the precision that the weights of the base are held in.

    Those that are learned stay in 32 bits: in 16 bits a small step is rounded away.
    """
    return FP32 if recipe.method == SFT_FULL else precision_of(recipe)


def precision_of(recipe: Recipe) -> str:
    """Return the precision that a recipe means on this machine: bf16, fp16 or fp32.

    Raises:
        BadInput: fp16 without a GPU: a CPU would compute it in software.
    """
    gpu = torch.cuda.is_available()
    if recipe.precision == AUTO:
        if not gpu:
            return FP32
        return BF16 if torch.cuda.is_bf16_supported() else FP16
    if recipe.precision == FP16 and not gpu:
        raise BadInput("recipe.precision", FP16, "bf16 or fp32 without a GPU", "Say auto.")
    return recipe.precision


def device(recipe: Recipe) -> dict[str, Any]:
    """Return the device and precision of a training on this machine."""
    gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "precision": precision_of(recipe),
    }
