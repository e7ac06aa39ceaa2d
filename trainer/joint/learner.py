"""What one role has of its own in a joint training: all but the base and the forward pass."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, get_scheduler

from trainer.data import IGNORED
from trainer.guards import Divergence
from trainer.joint.mixed import Part
from trainer.lesson import Lesson, Prepared
from trainer.methods.sft import arguments

_SEED_SPACE = 1 << 40
"""Dropout seeds of one optimizer step; layers and passes are counted within it."""


@dataclass
class Progress:
    """How far a learner is; as JSON in a checkpoint.

    Attributes:
        step: optimizer steps done.
        best_loss: lowest validation loss so far; None: not looked yet.
        best_step: where that was.
        looks_in_vain: looks at the validation loss since then.
        is_done: all steps are done, or it stopped early.
        unlogged: losses of the steps since the last logged one.
        history: logged steps, as of `trainer.measures.history_of`.
    """

    step: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    looks_in_vain: int = 0
    is_done: bool = False
    unlogged: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


class Learner:
    """One adapter with its rows, optimizer and schedule, all as transformers would have them."""

    def __init__(
        self, name: str, adapter: str, lesson: Lesson, data: Prepared, weights: Sequence[Any]
    ) -> None:
        self.name, self.adapter, self.lesson, self.data = name, adapter, lesson, data
        self.weights = list(weights)
        self.args = arguments(lesson, data)
        kind, options = Trainer.get_optimizer_cls_and_kwargs(self.args)
        decay = self.args.weight_decay
        self.optimizer = kind([{"params": self.weights, "weight_decay": decay}], **options)
        self.scheduler = get_scheduler(
            self.args.lr_scheduler_type, self.optimizer, self.args.warmup_steps, self.n_steps
        )
        self.progress = Progress()
        self.best: list[Tensor] | None = None
        self.seen: dict[str, float] = {}
        self.divergence = Divergence(lesson.recipe.max_grad_norm)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the rows."""
        return math.ceil(self.data.n_rows / self.lesson.recipe.effective_batch_size)

    @property
    def n_steps(self) -> int:
        """Optimizer steps of the whole training."""
        recipe = self.lesson.recipe
        return recipe.max_steps or math.ceil(recipe.epochs * self.steps_per_epoch)

    @cached_property
    def rows(self) -> list[dict[str, list[int]]]:
        """Rows to learn from."""
        return list(self.data.train)

    @cached_property
    def held_out(self) -> list[dict[str, list[int]]]:
        """Rows of the validation."""
        return list(self.data.validation or ())

    def next_passes(self) -> list[list[dict[str, list[int]]]]:
        """Return the rows of the next optimizer step, cut into forward passes.

        Their order follows from seed and step alone, and is the one that transformers takes.
        """
        recipe = self.lesson.recipe
        epoch, within = divmod(self.progress.step, self.steps_per_epoch)
        chance = torch.Generator().manual_seed(recipe.seed + epoch)
        order = torch.randperm(self.data.n_rows, generator=chance).tolist()
        begin = within * recipe.effective_batch_size
        mine = [self.rows[i] for i in order[begin : begin + recipe.effective_batch_size]]
        return cut(mine, recipe.batch_size)

    def part_of(
        self, rows: Sequence[dict[str, list[int]]], number: int, *, end_to_end: bool
    ) -> Part:
        """Return these rows as a part of the pass `number` of the next step."""
        step = (self.lesson.recipe.seed << 20) + self.progress.step
        seed = step * _SEED_SPACE % (1 << 62) + (number << 20)
        lengths = [len(row["input_ids"]) for row in rows]
        if end_to_end:
            return Part(self.adapter, sum(lengths), sum(lengths), seed)
        return Part(self.adapter, len(rows), max(lengths), seed)

    def step(self, loss: float) -> str | None:
        """Clip, step and log; return what is wrong if the training diverges."""
        lost = sum(weight.grad is None for weight in self.weights)
        assert not lost, f"{self.name}: {lost} weights without a gradient"
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.args.max_grad_norm)
        lr = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        now = self.progress
        now.step += 1
        now.unlogged.append(loss)
        if now.step % self.args.logging_steps:
            return None
        mean = sum(now.unlogged) / len(now.unlogged)
        now.unlogged.clear()
        return self._note({"loss": mean, "grad_norm": float(norm), "lr": lr})

    def look(self, validation_loss: float) -> str | None:
        """Note a validation loss: is it the best, and has there been none for too long?"""
        now, patience = self.progress, self.lesson.recipe.early_stopping_patience
        wrong = self._note({"validation_loss": validation_loss})
        if now.best_loss is None or validation_loss < now.best_loss:
            now.best_loss, now.best_step, now.looks_in_vain = validation_loss, now.step, 0
            self.best = [weight.detach().clone() for weight in self.weights]
        else:
            now.looks_in_vain += 1
            now.is_done |= bool(patience) and now.looks_in_vain >= patience
        return wrong

    @property
    def is_to_look(self) -> bool:
        """Whether the validation loss is due after the step just done."""
        now = self.progress.step
        due = now % self.lesson.recipe.eval_steps == 0 or now == self.n_steps
        return bool(self.held_out) and due

    def _note(self, measures: dict[str, float]) -> str | None:
        step = self.progress.step
        line = {"step": step, "epoch": step / self.steps_per_epoch, **measures}
        self.progress.history.append(line)
        self.seen |= measures
        return self.divergence.judge(measures)

    def state(self) -> dict[str, Any]:
        """Return optimizer and schedule, for a checkpoint."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "best": self.best,
        }

    def go_on_from(self, progress: dict[str, Any], state: dict[str, Any]) -> None:
        """Restore what a checkpoint holds; the weights themselves are loaded with the model."""
        self.progress = Progress(**progress)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.best = state["best"]
        for line in self.progress.history:
            measures = {k: v for k, v in line.items() if k not in ("step", "epoch")}
            self.seen |= measures
            self.divergence.judge(measures)


def cut(rows: Sequence[Any], size: int) -> list[list[Any]]:
    """Return the rows in lists of `size`, the last one maybe shorter."""
    return [list(rows[i : i + size]) for i in range(0, len(rows), size)]


def n_learned(rows: Sequence[dict[str, list[int]]]) -> int:
    """Return how many tokens of the rows have a loss; the first of a row is never foretold."""
    return sum(label != IGNORED for row in rows for label in row["labels"][1:])
