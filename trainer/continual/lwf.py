"""Learning without Forgetting (Li and Hoiem, 2016): answer new prompts as the old version would.

The loss is (1 - alpha) of the task's and alpha T^2 KL(old || new) over the answers' tokens, at
temperature T. No old rows are needed. Validation sees the task's loss alone.
"""

from typing import Any

import torch

from trainer.continual.old_model import OldModel, answers, divergence
from trainer.continual.state import Tensors
from trainer.recipe.continual import Continual


class OldAnswers:
    """The two halves that a trainer calls: before a batch, and for its loss."""

    def __init__(self, trainer: Any, weights: Tensors, continual: Continual) -> None:
        self.old = OldModel(trainer.model, weights)
        self.temperature, self.alpha = continual.lwf_temperature, continual.lwf_alpha
        self._compute_loss = trainer.compute_loss
        self._old_logits: torch.Tensor | None = None

    def compute_loss(self, model: Any, inputs: dict[str, Any], **options: Any) -> Any:
        """Ask the old version about a training batch, then let the trainer compute as always."""
        asked = {name: value for name, value in inputs.items() if name != "labels"}
        self._old_logits = self.old.logits(asked) if model.training else None
        return self._compute_loss(model, inputs, **options)

    def loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> Any:
        """Return the loss of a batch; per learned token of the whole step, as the trainer's own."""
        new, told = answers(outputs.logits, labels)
        n = torch.as_tensor(len(told) if num_items_in_batch is None else num_items_in_batch)
        task = torch.nn.functional.cross_entropy(new.float(), told, reduction="sum")
        if self._old_logits is None:
            return task / n.clamp(min=1)
        old, _ = answers(self._old_logits, labels)
        kept = self.temperature**2 * divergence(old, new, self.temperature)
        return ((1 - self.alpha) * task + self.alpha * kept) / n.clamp(min=1)


def hang_in(trainer: Any, weights: Tensors, continual: Continual) -> None:
    """Let a TRL trainer compute this loss."""
    both = OldAnswers(trainer, weights, continual)
    trainer.compute_loss = both.compute_loss
    trainer.compute_loss_func = both.loss
