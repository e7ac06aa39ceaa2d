"""A quadratic penalty that pulls important weights back to where they were: of ewc and si.

Its gradient is added right before the optimizer's step: once per step, however the batch is cut
into micro-batches, and after the task's own gradient was clipped, so that a strong pull does not
eat the task's share of the length. The reported losses stay the task's.
"""

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.continual.state import Tensors, adapter_parameters


class Pull(TrainerCallback):  # type: ignore[misc]
    """Adds the gradient of strength x sum of importance x (weight - anchor)^2."""

    def __init__(self, anchors: Tensors, importance: Tensors, strength: float) -> None:
        self.anchors, self.importance, self.strength = anchors, importance, strength
        self._pulled: list[tuple[torch.nn.Parameter, torch.Tensor, torch.Tensor]] = []

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        **kwargs: Any,
    ) -> None:
        """Find the weights that are pulled."""
        for name, parameter in adapter_parameters(model).items():
            anchor = self.anchors[name].to(parameter)
            self._pulled.append((parameter, anchor, self.importance[name].to(parameter)))

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Add it to what the task asks for."""
        with torch.no_grad():
            for parameter, anchor, importance in self._pulled:
                assert parameter.grad is not None
                parameter.grad.add_(importance * (parameter - anchor), alpha=2 * self.strength)


def penalty(weights: Tensors, anchors: Tensors, importance: Tensors, strength: float) -> float:
    """Return the penalty at some weights."""
    return strength * sum(
        float((importance[name] * (weights[name] - anchors[name]).square()).sum())
        for name in weights
    )
