"""What a training tells while it runs: progress, divergence, and which checkpoints are whole."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foundation.errors import FlywheelError

COMPLETE = "complete.json"
"""Written last into a checkpoint: without it the checkpoint is half of one."""


class Report(Protocol):
    """Told how far a training is, as `RunHandle.progress`; may raise to stop it."""

    def __call__(self, done: float, total: float, unit: str, **measures: Any) -> None:
        """Take one report."""


class Diverged(FlywheelError):
    """The loss is no longer a number."""

    def __init__(self, step: int, loss: float, lr: float) -> None:
        self.step, self.loss, self.lr = step, loss, lr
        super().__init__(
            f"training loss: got {loss} at step {step}, expected a finite number. "
            f"Lower recipe.lr (now {lr:g}), or look for broken rows in the dataset."
        )


class Clock:
    """Wall and CPU seconds of a training over all its starts."""

    def __init__(self, wall_s: float = 0.0, cpu_s: float = 0.0) -> None:
        self._wall_start = time.perf_counter() - wall_s
        self._cpu_start = time.process_time() - cpu_s

    def read(self) -> dict[str, float]:
        """Return `wall_s` and `cpu_s`, rounded to milliseconds."""
        return {
            "wall_s": round(time.perf_counter() - self._wall_start, 3),
            "cpu_s": round(time.process_time() - self._cpu_start, 3),
        }


class ReportProgress(TrainerCallback):  # type: ignore[misc]
    """Hands each logged step to `report`; an exception of `report` ends the training."""

    def __init__(self, report: Report, lr: float) -> None:
        self.report, self.lr = report, lr
        self._seen: dict[str, Any] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report loss, validation loss and learning rate; raises Diverged."""
        self._seen |= measures_of(logs or {})
        for name in ("loss", "validation_loss"):
            if not math.isfinite(self._seen.get(name, 0.0)):
                raise Diverged(state.global_step, self._seen[name], self.lr)
        self.report(state.global_step, state.max_steps, "steps", **self._seen)


class MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint once all of it is written, with the seconds spent so far."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the mark in one move."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        unfinished = folder / f"{COMPLETE}.part"
        unfinished.write_text(json.dumps(self.clock.read()))
        os.replace(unfinished, folder / COMPLETE)


_NAMES = {
    "loss": "loss",
    "eval_loss": "validation_loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
}


def measures_of(logs: dict[str, Any]) -> dict[str, float]:
    """Return the measurements of one log line under our names."""
    return {ours: float(logs[theirs]) for theirs, ours in _NAMES.items() if theirs in logs}


def history_of(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the logged steps as `{"step", "epoch", "loss" | "validation_loss", "lr", …}`."""
    lines = [(line, measures_of(line)) for line in log_history]
    return [
        {"step": line["step"], "epoch": line["epoch"], **measures}
        for line, measures in lines
        if measures
    ]
