"""Synaptic Intelligence (Zenke et al., 2017): hold what did the work while the old was learned.

Each step adds to a weight's path integral how much its move lowered the task's loss: minus gradient
times move. At the end of a training the integral over the squared way gone is the weight's
importance, and those of a line of versions add up. The penalty of the next training is
c x sum of importance x (weight - old weight)^2.

The integral is known only if it was kept while training: a line begins with si too.
"""

from pathlib import Path
from typing import Any, Final

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foundation.errors import BadInput
from trainer.continual.pull import Pull
from trainer.continual.state import (
    Tensors,
    adapter_parameters,
    adapter_weights,
    checkpoint_file,
    load_tensors,
    save_tensors,
    state_file,
)
from trainer.lesson import Lesson

PATH, BEGIN, IMPORTANCE = "path.safetensors", "begin.safetensors", "importance.safetensors"
DAMPING: Final = 1e-3
"""The paper's xi: a weight that has hardly moved is not thereby important."""


class PathIntegral(TrainerCallback):  # type: ignore[misc]
    """Adds up gradient times move, and goes on with it from a checkpoint.

    It must be asked before any penalty adds its gradient: only the task's counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parameters: dict[str, torch.nn.Parameter] = {}
        self._integral: Tensors = {}
        self._before: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        **kwargs: Any,
    ) -> None:
        """Begin at zero, or where the checkpoint was."""
        self._parameters = adapter_parameters(model)
        if state.global_step:
            held = load_tensors(checkpoint_file(args.output_dir, state.global_step, PATH))
            self._integral = {name: held[name].to(p) for name, p in self._parameters.items()}
            return
        self._integral = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        if state.is_world_process_zero:
            save_tensors(self._parameters, state_file(self.folder, BEGIN))

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Note gradient and weight."""
        for name, parameter in self._parameters.items():
            assert parameter.grad is not None
            self._before[name] = (parameter.grad.clone(), parameter.detach().clone())

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Add what the step did."""
        for name, (gradient, weight) in self._before.items():
            self._integral[name] -= gradient * (self._parameters[name].detach() - weight)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put it into the checkpoint."""
        if state.is_world_process_zero:
            save_tensors(self._integral, checkpoint_file(args.output_dir, state.global_step, PATH))


def pull(lesson: Lesson) -> Pull:
    """Return the penalty of a training."""
    assert lesson.earlier is not None
    return Pull(
        adapter_weights(lesson.earlier.folder),
        importance_of(lesson),
        lesson.recipe.continual.si_c,
    )


def importance_of(lesson: Lesson) -> Tensors:
    """Return the earlier version's importance of each weight.

    Raises:
        BadInput: it was trained without si.
    """
    assert lesson.earlier is not None
    stored = state_file(lesson.earlier.folder, IMPORTANCE)
    if not stored.is_file():
        raise BadInput(
            "earlier version",
            f"{lesson.earlier.name}, trained without si",
            "a version whose training kept its path integral",
            "Begin the line with recipe.continual.method si, or choose ewc, which measures later.",
        )
    return load_tensors(stored)


def keep(lesson: Lesson, checkpoint: Path, target: Path) -> None:
    """Store the importance of each weight of the kept version, that of its line included."""
    integral = load_tensors(state_file(checkpoint, PATH))
    begin = load_tensors(state_file(lesson.folder, BEGIN))
    end = adapter_weights(target)
    found = {name: importance(integral[name], end[name] - begin[name]) for name in integral}
    if lesson.earlier is not None:
        before = importance_of(lesson)
        found = {name: value + before[name] for name, value in found.items()}
    save_tensors(found, state_file(target, IMPORTANCE))


def importance(integral: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
    """Return the integral over the squared way, never negative."""
    return integral.clamp(min=0) / (way.square() + DAMPING)
