"""Supervised fine-tuning with TRL: LoRA, QLoRA or all weights, loss on the answers only.

The folder is the truth. A training that was killed goes on from its last whole checkpoint, with
optimizer, schedule, random state and place in the data restored, and ends with the same weights.
"""

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers import EarlyStoppingCallback, PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging
from trl import SFTConfig, SFTTrainer

from foundation.errors import BadInput
from foundation.run_log import listen_to
from foundation.settings import get_settings
from trainer.base import is_folder, load_model, load_tokenizer
from trainer.callbacks import Clock, MarkComplete, Report, ReportProgress, history_of
from trainer.checkpoints import Checkpoint, latest
from trainer.data import Encoded, Row, encode, require_labels
from trainer.recipe import ALL_LINEAR, SFT_FULL, SFT_QLORA, Recipe

LOGGED_STEPS = 200
"""About how many steps of a training are logged and reported."""

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_MEANT_FOR_PEFT = ("`is_gradient_checkpointing` is deprecated",)
_TRAINING_ONLY = ("optimizer.*", "scheduler.*", "rng_state*", "trainer_state.json", "*.bin")


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        folder: files to keep: an adapter, or a whole model with its tokenizer.
        weights_sha256: of the weight files; equal data, recipe, seed and threads give equal ones.
        metrics: losses, steps, rows and tokens.
        history: logged steps.
        environment: device, precision, threads, wall and CPU seconds.
    """

    folder: Path
    weights_sha256: str
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    environment: dict[str, Any]


def train(
    base_model: str,
    rows: Sequence[Row],
    validation: Sequence[Row],
    recipe: Recipe,
    folder: Path,
    report: Report,
) -> Trained:
    """Train, or go on training, in `folder`; calling it again after the end trains nothing.

    Args:
        base_model: folder or hub name.
        rows: to learn from.
        validation: for early stopping and the best checkpoint; without any the last one is kept.
        recipe: all knobs.
        folder: of this training alone.
        report: told each logged step; what it raises ends the training.

    Raises:
        NotFound: the base model.
        BadInput: no row is left to learn from, or the recipe does not fit the base or machine.
        Diverged: the loss became infinite or not a number.
    """
    tokenizer = load_tokenizer(base_model)
    learned = encode(rows, tokenizer, recipe.max_length)
    held_out = encode(validation, tokenizer, recipe.max_length)
    require_labels(learned.labels, "training rows")
    with torch_threads(recipe.threads) as threads, _quiet_libraries():
        end = latest(folder)
        if end is None or not end.is_last:
            _fit(base_model, tokenizer, learned, held_out, recipe, folder, end, report)
            end = latest(folder)
    assert end is not None, "transformers saves a checkpoint at the last step"
    kept = _keep(end.best, folder / "trained", recipe, base_model)
    return Trained(
        folder=kept,
        weights_sha256=weights_sha256(kept),
        metrics=_metrics(end, learned, held_out),
        history=history_of(end.state["log_history"]),
        environment={**device(recipe), "threads": threads, **end.clock},
    )


def device(recipe: Recipe) -> dict[str, Any]:
    """Return the device and precision of a training on this machine."""
    gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "precision": "bf16" if gpu and recipe.bf16 else "fp32",
    }


@contextmanager
def torch_threads(wanted: int) -> Iterator[int]:
    """Compute with `wanted` threads (0: the setting, or all cores) and yield their number."""
    before = torch.get_num_threads()
    threads = wanted or get_settings().torch_threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence progress bars, and warnings that one library means for another."""
    listen_to("transformers", "datasets")  # they keep their lines from the root logger
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    with warnings.catch_warnings():
        for message in _MEANT_FOR_PEFT:
            warnings.filterwarnings("ignore", message=message, category=FutureWarning)
        yield


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 over the safetensors files of a folder, in order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _fit(
    base_model: str,
    tokenizer: Any,
    learned: Encoded,
    held_out: Encoded,
    recipe: Recipe,
    folder: Path,
    start: Checkpoint | None,
    report: Report,
) -> None:
    bf16 = device(recipe)["precision"] == "bf16"
    model = load_model(base_model, recipe.method, bf16)
    _require_targets(model, recipe)
    if recipe.method == SFT_QLORA:
        model = prepare_model_for_kbit_training(model, recipe.gradient_checkpointing)
    clock = start.resumed_clock() if start else Clock()
    callbacks = [ReportProgress(report, recipe.lr), MarkComplete(clock)]
    if recipe.early_stopping_patience and len(held_out):
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping_patience))
    set_seed(recipe.seed)  # before the adapter's first weights are drawn
    sft = SFTTrainer(
        model=model,
        args=_arguments(recipe, folder, len(learned), bool(len(held_out)), bf16),
        train_dataset=_dataset(learned),
        eval_dataset=_dataset(held_out) if len(held_out) else None,
        processing_class=tokenizer,
        peft_config=None if recipe.method == SFT_FULL else _lora(recipe),
        callbacks=callbacks,
    )
    sft.remove_callback(PrinterCallback)
    require_labels(sft.train_dataset["labels"], "rows that the trainer was given")
    sft.train(resume_from_checkpoint=str(start.path) if start else None)


def _require_targets(model: Any, recipe: Recipe) -> None:
    """Check each target by name: peft is content when any one of them exists."""
    if recipe.method == SFT_FULL or recipe.target_modules == ALL_LINEAR:
        return
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    } - {"lm_head"}
    for target in recipe.target_modules:
        if target not in linear:
            raise BadInput(
                "recipe.target_modules",
                target,
                f"linear layers of the base: {', '.join(sorted(linear))}",
                "Name some of those, or all-linear.",
            )


def _dataset(encoded: Encoded) -> Dataset:
    return Dataset.from_dict({"input_ids": encoded.input_ids, "labels": encoded.labels})


def _lora(recipe: Recipe) -> LoraConfig:
    all_linear = recipe.target_modules == ALL_LINEAR
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules="all-linear" if all_linear else list(recipe.target_modules),
        bias="none",
    )


def _arguments(
    recipe: Recipe, folder: Path, n_rows: int, has_validation: bool, bf16: bool
) -> SFTConfig:
    gpu = torch.cuda.is_available()
    steps = math.ceil(n_rows / recipe.effective_batch_size) * recipe.epochs
    return SFTConfig(
        output_dir=str(folder),
        seed=recipe.seed,
        learning_rate=recipe.lr,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=recipe.warmup,
        num_train_epochs=recipe.epochs,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        max_length=None,  # longer rows were left out and counted
        packing=False,
        # Both defaults are True, which is slow or fails on a CPU.
        bf16=bf16,
        activation_checkpointing=gpu and recipe.gradient_checkpointing,
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        eval_strategy="steps" if has_validation else "no",
        eval_steps=recipe.eval_steps,
        save_strategy="steps",
        save_steps=recipe.eval_steps,
        save_total_limit=2,
        metric_for_best_model="eval_loss" if has_validation else None,
        greater_is_better=False if has_validation else None,
        load_best_model_at_end=has_validation,
        restore_callback_states_from_checkpoint=True,  # else patience starts anew after a kill
        logging_steps=max(1, int(steps / LOGGED_STEPS)),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )


def _keep(checkpoint: Path, target: Path, recipe: Recipe, base_model: str) -> Path:
    """Copy the files that serve, without those that only training needs, to `target`."""
    shutil.rmtree(target, ignore_errors=True)
    if recipe.method == SFT_FULL:
        ignored = shutil.ignore_patterns(*_TRAINING_ONLY, "complete.json", "README.md")
        return Path(shutil.copytree(checkpoint, target, ignore=ignored))
    target.mkdir()
    for name in ADAPTER_FILES:
        shutil.copyfile(checkpoint / name, target / name)
    config_file = target / ADAPTER_FILES[0]
    config = json.loads(config_file.read_text())
    # peft keeps a set here, in another order each time; and a path would tell where it was made.
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    config["base_model_name_or_path"] = (
        Path(base_model).name if is_folder(base_model) else base_model
    )
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return target


def _metrics(end: Checkpoint, learned: Encoded, held_out: Encoded) -> dict[str, Any]:
    history = history_of(end.state["log_history"])
    losses = [line["loss"] for line in history if "loss" in line]
    return {
        "steps": end.state["global_step"],
        "planned_steps": end.state["max_steps"],
        "stopped_early": end.state["global_step"] < end.state["max_steps"],
        "best_step": end.state["best_global_step"],
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "best_validation_loss": end.state["best_metric"],
        "rows": len(learned),
        "validation_rows": len(held_out),
        "dropped": dict(learned.dropped),
        "validation_dropped": dict(held_out.dropped),
        "learned_tokens_per_epoch": learned.n_learned_tokens,
    }
