"""PackNet (Mallya and Lazebnik, 2018) on an adapter's ranks: each task keeps a share of the free.

A training learns in all free ranks; two thirds in, it keeps the best share of them (by singular
values, so the least is lost), empties the others and goes on with what it kept. Kept ranks are
frozen in all later trainings, emptied ones are free for them, and the adapter never grows.

Ranks and not single weights: PackNet's promise rests on masking later weights away at inference by
the task's number, and a served adapter has one mask for all. Ranks can at least be taken apart: the
first k columns of a version are, bit for bit, those of the version that kept them.
"""

from math import ceil
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from foundation.errors import BadInput
from trainer.continual.ranks import (
    Ranks,
    TrainOnly,
    concentrated,
    make_room,
    n_used,
    require_unchanged,
)
from trainer.continual.state import (
    ADAPTER_WEIGHTS,
    adapter_config,
    adapter_parameters,
    adapter_weights,
    load_json,
    save_json,
    save_tensors,
    start_folder,
    state_file,
)
from trainer.lesson import Lesson

MASKS = "packnet.json"
LEARNING_SHARE = 2 / 3
"""Share of the steps before the free ranks are thinned; the paper retrains for about a third."""


def grow(lesson: Lesson) -> Path:
    """Write and return the adapter that the training begins with: kept ranks, and fresh free ones.

    A version that was not trained with packnet has no mask: it is thinned here, without retraining.
    """
    assert lesson.earlier is not None
    weights = adapter_weights(lesson.earlier.folder)
    kept = _kept_before(lesson)
    if not _tasks_before(lesson):
        concentrated(weights, Ranks(0, lesson.recipe.r), kept)
    folder = start_folder(lesson)
    config = adapter_config(lesson.earlier.folder)
    make_room(weights, config, kept, lesson.recipe.r - kept, lesson.recipe.seed, folder)
    return folder


def free_ranks(lesson: Lesson) -> Ranks:
    """Return the ranks that no earlier task keeps."""
    return Ranks(_kept_before(lesson), lesson.recipe.r)


def ranks_to_keep(lesson: Lesson) -> Ranks:
    """Return the ranks that this task keeps, the first of the free ones.

    Raises:
        BadInput: no rank is free.
    """
    free = free_ranks(lesson)
    if free.n < 1:
        raise BadInput(
            "free ranks of the adapter",
            free.n,
            "at least one",
            "Go on with progressive, which adds ranks.",
        )
    return Ranks(free.first, free.first + _share(lesson, free.n))


class Thin(TrainOnly):
    """Learns in the free ranks, then in those it keeps."""

    def __init__(self, free: Ranks, kept: Ranks) -> None:
        super().__init__(free)
        self.free, self.kept = free, kept

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        **kwargs: Any,
    ) -> None:
        """Go on as the step of the checkpoint says."""
        super().on_train_begin(args, state, control, model, **kwargs)
        if state.global_step >= self._at(state):
            self.restrict(self.kept)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Thin at its step, before that step's look at the validation loss and its checkpoint."""
        if state.global_step != self._at(state) or self.free == self.kept:
            return
        parameters = adapter_parameters(model)
        weights = {name: parameter.data for name, parameter in parameters.items()}
        concentrated(weights, self.free, self.kept.n)
        for parameter in parameters.values():
            optimizer.state.pop(parameter, None)  # the memory of other directions
        self.restrict(self.kept)
        # Only a thinned checkpoint can be the best one.
        state.best_metric = state.best_model_checkpoint = state.best_global_step = None

    @staticmethod
    def _at(state: TrainerState) -> int:
        return ceil(int(state.max_steps) * LEARNING_SHARE)


def keep(lesson: Lesson, target: Path) -> None:
    """Thin what ended before it was thinned, check what was frozen, and write the mask."""
    free, kept = free_ranks(lesson), ranks_to_keep(lesson)
    weights = adapter_weights(target)
    if _is_used(weights, Ranks(kept.end, free.end)):
        concentrated(weights, free, kept.n)
        save_tensors(weights, target / ADAPTER_WEIGHTS)
    if lesson.earlier is not None:
        require_unchanged(target, start_folder(lesson), Ranks(0, free.first))
    tasks = _tasks_before(lesson) or ([[0, free.first]] if free.first else [])
    save_json(
        {"tasks": [*tasks, [kept.first, kept.end]], "rank": lesson.recipe.r},
        state_file(target, MASKS),
    )


def _is_used(weights: dict[str, torch.Tensor], ranks: Ranks) -> bool:
    return any(bool(ranks.of(name, matrix).any()) for name, matrix in weights.items())


def _tasks_before(lesson: Lesson) -> list[list[int]]:
    """Return the ranks that each earlier task keeps; none where the earlier version has no mask."""
    if lesson.earlier is None or not (mask := state_file(lesson.earlier.folder, MASKS)).is_file():
        return []
    tasks: list[list[int]] = load_json(mask)["tasks"]
    return tasks


def _kept_before(lesson: Lesson) -> int:
    """Return how many ranks earlier tasks keep: the first ones."""
    if lesson.earlier is None:
        return 0
    if tasks := _tasks_before(lesson):
        return tasks[-1][1]
    return _share(lesson, min(lesson.recipe.r, n_used(adapter_weights(lesson.earlier.folder))))


def _share(lesson: Lesson, free: int) -> int:
    return max(1, round(free * lesson.recipe.continual.packnet_share))
