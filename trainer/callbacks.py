"""What looks on while a training runs: it reports, judges, and sees that checkpoints are whole."""

import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foundation.footprint import peak_rss_mb
from trainer.checkpoints import mark_complete, size_of
from trainer.guards import MARGIN_BYTES, Diverged, Divergence, checkpoint_bytes, require_room
from trainer.lesson import Report
from trainer.measures import measures_of

MARKS: Final = 20
"""Reports that the pace is measured over."""


class Clock:
    """Seconds of a training over all its starts.

    `startup_s` is that of the first start, from `fit` to its first step; `checkpoint_s` is what all
    checkpoints took together.
    """

    def __init__(self) -> None:
        self._wall_start = time.perf_counter()
        self._cpu_start = time.process_time()
        self._before = dict.fromkeys(("wall_s", "cpu_s", "checkpoint_s"), 0.0)
        self._startup_s: float | None = None
        self._checkpoint_s = 0.0

    def go_on_from(self, earlier: dict[str, float]) -> None:
        """Add what a start before this one had read."""
        self._before = {name: earlier[name] for name in self._before}
        self._startup_s = earlier["startup_s"]

    def started(self) -> None:
        """Note that the first step begins."""
        if self._startup_s is None:
            self._startup_s = time.perf_counter() - self._wall_start

    def saved(self, took_s: float) -> None:
        """Note that a checkpoint was written."""
        self._checkpoint_s += took_s

    def read(self) -> dict[str, float]:
        """Return `wall_s`, `cpu_s`, `startup_s` and `checkpoint_s`, rounded to milliseconds."""
        here = {
            "wall_s": time.perf_counter() - self._wall_start,
            "cpu_s": time.process_time() - self._cpu_start,
            "checkpoint_s": self._checkpoint_s,
        }
        read = {name: round(self._before[name] + took, 3) for name, took in here.items()}
        return {**read, "startup_s": round(self._startup_s or 0.0, 3)}


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
    """Hands each logged step to `report`, and judges it.

    An exception of `report` or `check` ends the training; `check` is asked after each step, since
    logged ones may be far apart.
    """

    def __init__(self, report: Report, check: Callable[[], None], divergence: Divergence) -> None:
        self.report, self.check, self.divergence = report, check, divergence
        self.pace = Pace()
        self._seen: dict[str, Any] = {}
        self._n_tokens: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Judge again what an earlier start had logged: it is not reported twice."""
        for line in state.log_history:
            self.divergence.judge(measures_of(line))

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock of a step."""
        self.pace.begin_step()

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        """Ask whether to go on, between the passes of a step too."""
        self.check()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock, and ask whether to go on."""
        self.pace.end_step()
        self.check()

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
        measures = measures_of(logs)
        self._seen |= measures
        reason = self.divergence.judge(measures)
        if reason is not None:
            lr = self._seen.get("lr", args.learning_rate)
            raise Diverged(state.global_step, self._seen.get("loss", math.nan), lr, reason)
        if not state.is_world_process_zero:
            return
        self._n_tokens = logs.get("num_tokens", self._n_tokens)
        self._seen |= self.pace.read(state.global_step, state.max_steps, self._n_tokens)
        self._seen |= {"epoch": round(state.epoch or 0.0, 3), "memory_mb": peak_memory_mb()}
        self.report(state.global_step, state.max_steps, "steps", **self._seen)


def peak_memory_mb() -> float:
    """Return the most memory in MiB held so far: of the GPU where there is one, or the process."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak_rss_mb()


class KeepCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Looks for room before each checkpoint, times it, and marks it once all of it is written."""

    def __init__(self, folder: Path, clock: Clock, micro_batch: int) -> None:
        self.folder, self.clock, self.micro_batch = folder, clock, micro_batch
        self._size = 0
        self._began = 0.0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Look for room for all checkpoints that will lie side by side; raises DiskFull."""
        present = [size_of(path) for path in self.folder.glob("checkpoint-*")]
        self._size = max(present, default=checkpoint_bytes(model))
        to_come = math.ceil((state.max_steps - state.global_step) / args.save_steps)
        side_by_side = (args.save_total_limit or to_come) + 1  # the new one before the oldest goes
        more = max(1, min(to_come, side_by_side - len(present)))
        require_room(self.folder, more * self._size + MARGIN_BYTES)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Note the first step."""
        self.clock.started()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look for room where a checkpoint comes next; raises DiskFull before it is begun."""
        if control.should_save:
            require_room(self.folder, self._size + MARGIN_BYTES)
        self._began = time.perf_counter()

    def on_log(self, *_: Any, **__: Any) -> None:
        """Note the time: a checkpoint may follow."""
        self._began = time.perf_counter()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Note the time: a checkpoint may follow."""
        self._began = time.perf_counter()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark it, with the seconds spent so far, once every process has written its part."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if not state.is_world_process_zero:
            return
        folder = self.folder / f"checkpoint-{state.global_step}"
        self._size = size_of(folder)
        mark_complete(folder, self._facts)

    def _facts(self) -> dict[str, Any]:
        self.clock.saved(time.perf_counter() - self._began)
        return {"clock": self.clock.read(), "micro_batch": self.micro_batch}
