"""What a training tells while it runs: progress, divergence, and which checkpoints are whole."""

import json
import math
import os
import resource
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foundation.errors import FlywheelError

COMPLETE = "complete.json"
"""Written last into a checkpoint: without it the checkpoint is half of one."""

MARKS: Final = 20
"""Reports that the pace is measured over."""


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


class Pace:
    """How fast a training is, by its last steps: tokens a second, and the seconds still to come.

    Tokens are counted per second of training steps; what is to come includes the looks at the
    validation loss and the checkpoints between them, as they were so far.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float, float, float]] = deque(maxlen=MARKS)
        self._trained_s = 0.0
        self._step_began: float | None = None

    def begin_step(self) -> None:
        """Note that an optimizer step begins."""
        self._step_began = time.perf_counter()

    def end_step(self) -> None:
        """Note that it is done."""
        if self._step_began is not None:
            self._trained_s += time.perf_counter() - self._step_began
            self._step_began = None

    def read(self, step: int, steps: int, n_tokens: float | None) -> dict[str, float]:
        """Return `tokens_per_s` and `eta_s`, as far as two reports can tell.

        Args:
            step: optimizer steps done.
            steps: of the whole training.
            n_tokens: that this start has trained on so far; None if nobody counts them.
        """
        mark = (time.perf_counter(), float(step), self._trained_s, n_tokens or 0.0)
        first = self._marks[0] if self._marks else mark
        if not self._marks or step > self._marks[-1][1]:
            self._marks.append(mark)
        passed_s, passed_steps, trained_s, tokens = (
            now - then for now, then in zip(mark, first, strict=True)
        )
        found = {}
        if tokens > 0 and trained_s > 0:
            found["tokens_per_s"] = round(tokens / trained_s, 1)
        if passed_steps > 0:
            found["eta_s"] = round(max(0, steps - step) * passed_s / passed_steps, 1)
        return found


class ReportProgress(TrainerCallback):  # type: ignore[misc]
    """Hands each logged step to `report`; an exception of `report` ends the training."""

    def __init__(self, report: Report, lr: float) -> None:
        self.report, self.lr = report, lr
        self.pace = Pace()
        self._seen: dict[str, Any] = {}
        self._n_tokens: float | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock of a step."""
        self.pace.begin_step()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop it."""
        self.pace.end_step()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report losses, learning rate, pace and memory; raises Diverged."""
        logs = logs or {}
        self._seen |= measures_of(logs)
        for name in ("loss", "validation_loss"):
            if not math.isfinite(self._seen.get(name, 0.0)):
                raise Diverged(state.global_step, self._seen[name], self.lr)
        self._n_tokens = logs.get("num_tokens", self._n_tokens)
        self._seen |= self.pace.read(state.global_step, state.max_steps, self._n_tokens)
        self._seen |= {"epoch": round(state.epoch or 0.0, 3), "memory_mb": peak_memory_mb()}
        self.report(state.global_step, state.max_steps, "steps", **self._seen)


def peak_memory_mb() -> float:
    """Return the most memory in MiB held so far: of the GPU where there is one, or the process."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (2**20 if sys.platform == "darwin" else 2**10), 1)


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
