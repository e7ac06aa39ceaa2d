"""One training in its folder, whatever its method: resumed, guarded, and ended with what is kept.

The folder is the truth. A training that was killed goes on from its last whole checkpoint, with
optimizer, schedule, random state and place in the data restored, and ends with the same weights.
One that memory does not suffice for goes on from there too, with smaller forward passes.
"""

import gc
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars
from transformers import EarlyStoppingCallback, PrinterCallback, set_seed
from transformers.integrations import TensorBoardCallback
from transformers.utils import logging as transformers_logging

from foundation.run_log import listen_to
from foundation.settings import get_settings
from trainer.arguments import device
from trainer.base import is_folder
from trainer.callbacks import Clock, KeepCheckpoints, ReportProgress
from trainer.checkpoints import COMPLETE, Checkpoint, latest, remove_half_written
from trainer.guards import (
    DiskFull,
    Divergence,
    OutOfMemory,
    is_disk_full,
    is_out_of_memory,
    require_trackers,
    smaller,
)
from trainer.lesson import Lesson, Prepared, Trained
from trainer.measures import history_of, tokens_of
from trainer.methods import FULL, METHODS, TASKS, MethodModule, method_module

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_MEANT_FOR_PEFT = ("`is_gradient_checkpointing` is deprecated",)
_TRAINING_ONLY = ("optimizer.*", "scheduler.*", "rng_state*", "trainer_state.json", "*.bin")


def fit(lesson: Lesson) -> Trained:
    """Train, or go on training, in the lesson's folder; again after the end it trains nothing.

    Raises:
        NotFound: the base model.
        BadInput: no row is left to learn from, or the recipe does not fit the base or machine.
        Diverged: the loss became no number, or ran away.
        OutOfMemory: not even one row at a time fits.
        DiskFull: there is no room for a checkpoint; the one before is whole.
    """
    clock, recipe = Clock(), lesson.recipe
    require_trackers(recipe.report_to)
    module = method_module(recipe.method)
    with torch_threads(recipe.threads) as threads, quiet_libraries(), named_if_full(lesson.folder):
        prepared = module.prepare(lesson)
        train_to_end(lesson, prepared, clock)
        end = latest(lesson.folder, lesson.say)
        assert end is not None, "transformers saves a checkpoint at the last step"
        kept = _keep(end.best, lesson)
        if hasattr(module, "keep"):
            module.keep(lesson, prepared, end.best, kept)
    return Trained(
        folder=kept,
        weights_sha256=weights_sha256(kept),
        metrics={**_metrics(end), **prepared.metrics},
        history=history_of(end.state["log_history"]),
        environment={**device(recipe), "threads": threads, **end.clock},
    )


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
def quiet_libraries() -> Iterator[None]:
    """Silence progress bars, and warnings that one library means for another."""
    listen_to("transformers", "datasets")  # they keep their lines from the root logger
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    with warnings.catch_warnings():
        for message in _MEANT_FOR_PEFT:
            warnings.filterwarnings("ignore", message=message, category=FutureWarning)
        yield


@contextmanager
def named_if_full(folder: Path) -> Iterator[None]:
    """Turn a failed write into DiskFull, and give back what half a checkpoint takes."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        remove_half_written(folder)
        raise DiskFull(folder, shutil.disk_usage(folder).free) from error


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 over the safetensors files of a folder, in order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def train_to_end(lesson: Lesson, prepared: Prepared, clock: Clock) -> None:
    """Train from the last whole checkpoint on, if there is anything left to do.

    Passes become smaller wherever memory does not suffice.
    """
    start = latest(lesson.folder, lesson.say)
    if start is not None:
        if start.is_last:
            return
        clock.go_on_from(start.clock)
        lesson = _in_passes_of(lesson, min(start.micro_batch, lesson.recipe.batch_size))
    module = method_module(lesson.recipe.method)
    while (refused := _attempt(lesson, module, prepared, start, clock)) is not None:
        recipe = smaller(lesson.recipe)
        if recipe is None or _is_one_of_several():  # the others would wait for this one for ever
            raise OutOfMemory(lesson.recipe.batch_size, refused)
        start = latest(lesson.folder, lesson.say)
        lesson.say(
            "WARNING",
            f"out of memory ({refused}): {recipe.batch_size} rows a pass instead of "
            f"{lesson.recipe.batch_size}, {recipe.gradient_accumulation} passes a step, so still "
            f"{recipe.effective_batch_size} rows a step; going on from "
            f"{start.path.name if start else 'the beginning'}",
        )
        lesson = replace(lesson, recipe=recipe)


def _is_one_of_several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _in_passes_of(lesson: Lesson, rows: int) -> Lesson:
    """Return the lesson with that many rows a pass, as the start before came to need."""
    recipe = lesson.recipe
    passes = recipe.effective_batch_size // rows
    return replace(lesson, recipe=replace(recipe, batch_size=rows, gradient_accumulation=passes))


def _attempt(
    lesson: Lesson, module: MethodModule, prepared: Prepared, start: Checkpoint | None, clock: Clock
) -> str | None:
    """Train; return what the allocator said if it refused memory, with all of it given back."""
    try:
        trainer = _built(lesson, module, prepared, clock)
        with _lean_checkpoints(trainer, METHODS[lesson.recipe.method].makes):
            trainer.train(resume_from_checkpoint=str(start.path) if start else None)
        return None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        refused = str(error).strip().split("\n")[0][:200] or type(error).__name__
    trainer = None  # the model lives until nothing of the attempt is referred to
    give_memory_back()
    return refused


def give_memory_back() -> None:
    """Let go of what nothing refers to any more, the GPU's memory too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _built(lesson: Lesson, module: MethodModule, prepared: Prepared, clock: Clock) -> Any:
    """Return the method's trainer with everything that looks on."""
    recipe = lesson.recipe
    set_seed(recipe.seed)  # before the adapter's first weights are drawn
    trainer = module.build(lesson, prepared)
    falls = METHODS[recipe.method].reads != TASKS
    divergence = Divergence(recipe.max_grad_norm, loss_tells=falls)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ReportProgress(lesson.report, lesson.check, divergence))
    trainer.add_callback(KeepCheckpoints(lesson.folder, clock, recipe.batch_size))
    if recipe.early_stopping_patience and prepared.validation is not None:
        trainer.add_callback(EarlyStoppingCallback(recipe.early_stopping_patience))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(tracking_folder(lesson))  # the training's own is removed
    return trainer


@contextmanager
def _lean_checkpoints(trainer: Any, makes: str) -> Iterator[None]:
    """Leave out of checkpoints the cards, half the time of saving a small adapter, and tokenizers.

    A whole model keeps its tokenizer: its last checkpoint is what will be served.
    """
    spared = [(trainer, "create_model_card"), (trainer.model, "create_or_update_model_card")]
    if makes != FULL:
        spared.append((trainer.processing_class, "save_pretrained"))
    spared = [(owner, name) for owner, name in spared if hasattr(owner, name)]
    for owner, name in spared:
        owner.__dict__[name] = _do_nothing  # hides the method of this one object
    try:
        yield
    finally:
        for owner, name in spared:
            del owner.__dict__[name]


def _do_nothing(*_: Any, **__: Any) -> None:
    pass


def tracking_folder(lesson: Lesson) -> Path:
    """Return where the files of a tracker that writes files stay: FLYWHEEL_HOME/tracking."""
    return get_settings().home.absolute() / "tracking" / lesson.folder.name


def _keep(checkpoint: Path, lesson: Lesson) -> Path:
    """Copy the files that serve, without those that only training needs, beside the checkpoints."""
    target = lesson.folder / "trained"
    shutil.rmtree(target, ignore_errors=True)
    if METHODS[lesson.recipe.method].makes == FULL:
        ignored = shutil.ignore_patterns(*_TRAINING_ONLY, COMPLETE, "README.md")
        return Path(shutil.copytree(checkpoint, target, ignore=ignored))
    target.mkdir()
    for name in ADAPTER_FILES:
        shutil.copyfile(checkpoint / name, target / name)
    tidy_adapter_config(target / ADAPTER_FILES[0], lesson.base_model)
    return target


def tidy_adapter_config(file: Path, base_model: str) -> None:
    """Make equal adapters equal files, which do not tell where they were made."""
    config = json.loads(file.read_text())
    # peft keeps a set here, in another order each time; and a path would tell where it was made.
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    config["base_model_name_or_path"] = (
        Path(base_model).name if is_folder(base_model) else base_model
    )
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _metrics(end: Checkpoint) -> dict[str, Any]:
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
        "tokens": tokens_of(end.state["log_history"]),
        "micro_batch": end.micro_batch,
    }
