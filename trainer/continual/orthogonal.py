"""Orthogonal LoRA (O-LoRA, arXiv 2310.14152): new ranks read directions that old ones do not.

As `progressive`, with a penalty: lambda times the sum of squares of A_old A_new^T, the overlap of
what the frozen and the new ranks read. The paper's loss is this sum; its code takes absolute values
instead. Each old A is divided by its rows' lengths, so that one lambda means the same to adapters
that have grown differently.
"""

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.continual.ranks import Ranks, rank_axis
from trainer.continual.state import Tensors, adapter_parameters


def overlap(weights: Tensors, old: Ranks, new: Ranks) -> float:
    """Return the sum of squares of A_old A_new^T over the layers, old rows of length 1."""
    return sum(
        float((_directions(old.of(name, a)) @ new.of(name, a).T).square().sum())
        for name, a in weights.items()
        if rank_axis(name) == 0
    )


class Overlap(TrainerCallback):  # type: ignore[misc]
    """Adds the gradient of the overlap, once per optimizer step."""

    def __init__(self, strength: float, old: Ranks, new: Ranks) -> None:
        self.strength, self.old, self.new = strength, old, new
        self._pairs: list[tuple[torch.Tensor, torch.nn.Parameter, str]] = []

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any,
        **kwargs: Any,
    ) -> None:
        """Take the frozen directions."""
        for name, a in adapter_parameters(model).items():
            if rank_axis(name) == 0:
                self._pairs.append((_directions(self.old.of(name, a.detach())), a, name))

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Add it to what the task asks for."""
        for old, a, name in self._pairs:
            assert a.grad is not None
            new = self.new.of(name, a.detach())
            self.new.of(name, a.grad).add_(new @ old.T @ old, alpha=2 * self.strength)


def _directions(a: torch.Tensor) -> torch.Tensor:  # (rank, in)
    return torch.nn.functional.normalize(a, dim=1)
