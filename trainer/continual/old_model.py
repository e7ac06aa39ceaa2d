"""Ask the earlier version's adapter inside the model that is being trained: no second model.

Only the adapter's matrices differ, so they are exchanged for one call. Nothing is learned there, no
dropout is drawn, and the random state of the training stays as it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.func import functional_call

from trainer.apart import APART
from trainer.continual.state import Tensors, adapter_parameters
from trainer.data import IGNORED


class OldModel:
    """The model with other adapter weights."""

    def __init__(self, model: Any, weights: Tensors) -> None:
        self.model = model
        names = {parameter: name for name, parameter in model.named_parameters()}
        self._weights = {
            names[parameter]: weights[name].to(parameter)
            for name, parameter in adapter_parameters(model).items()
        }

    def logits(self, inputs: Mapping[str, Any]) -> torch.Tensor:  # (rows, tokens, vocabulary)
        """Return what the old version predicts."""
        with torch.no_grad(), evaluating(self.model):
            found: torch.Tensor = functional_call(
                self.model, self._weights, kwargs=dict(inputs)
            ).logits
        return found


def alone(model: Any, ids: Sequence[int]) -> dict[str, Any]:
    """Return what a model is called with for one row, however it attends to rows."""
    device = next(model.parameters()).device
    inputs: dict[str, Any] = {"input_ids": torch.tensor([ids], device=device), "use_cache": False}
    if model.config._attn_implementation == APART:
        ends = torch.tensor([0, len(ids)], device=device, dtype=torch.int32)
        inputs |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
        inputs |= {"max_length_q": len(ids), "max_length_k": len(ids)}
    return inputs


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Hold a model without dropout, as at inference."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def answers(
    logits: torch.Tensor,  # (rows, tokens, vocabulary)
    labels: torch.Tensor,  # (rows, tokens)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits that predict the learned tokens, and these tokens: (learned, …) each."""
    told = labels[:, 1:] != IGNORED
    return logits[:, :-1][told], labels[:, 1:][told]


def divergence(
    old: torch.Tensor,  # (learned, vocabulary)
    new: torch.Tensor,  # (learned, vocabulary)
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return the sum over tokens of KL(old || new), in nats, both softened by the temperature."""
    return torch.nn.functional.kl_div(
        torch.log_softmax(new.float() / temperature, dim=-1),
        torch.log_softmax(old.float() / temperature, dim=-1),
        reduction="sum",
        log_target=True,
    )
