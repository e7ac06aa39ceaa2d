"""Rows of several adapters in one batch: each goes through its own, and through the base together.

peft's own mixed batches are for inference: its hooks are gone when a checkpointed layer is computed
again, and with reentrant checkpointing most gradients are then silently missing. Here the layers
themselves know the parts of the batch, until the next batch comes. The rows of an adapter lie side
by side, so that a batch is split and joined again, without an index.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """The rows of one adapter in a batch.

    Attributes:
        adapter: its name in the model.
        size: rows, one below the other; of rows that lie end to end, their tokens.
        width: tokens of the longest of them, without what only other parts' rows need; of rows
            that lie end to end, all of them.
        seed: of the dropout in this pass; the same part drops the same in any company.
    """

    adapter: str
    size: int
    width: int
    seed: int


class Mix:
    """Where the rows of the present batch go."""

    def __init__(self, *, end_to_end: bool = False) -> None:
        self.parts: Sequence[Part] = ()
        self._along = 1 if end_to_end else 0

    def forward(self, layer: Any, number: int, x: Tensor) -> Tensor:  # rows x tokens x features
        """Compute one layer with adapters: the base on all rows, each adapter on its own."""
        result: Tensor = layer.base_layer(x)
        sizes = [part.size for part in self.parts]
        assert sum(sizes) == x.shape[self._along], "every row belongs to a part"
        deltas = [
            self._delta(layer, number, part, rows, result)
            for part, rows in zip(self.parts, torch.split(x, sizes, self._along), strict=True)
        ]
        return result + (deltas[0] if len(deltas) == 1 else torch.cat(deltas, self._along))

    def _delta(self, layer: Any, number: int, part: Part, x: Tensor, result: Tensor) -> Tensor:
        name = part.adapter
        if name not in layer.lora_A:  # this adapter leaves the layer alone
            return result.new_zeros(*x.shape[:-1], result.shape[-1])
        x = x.to(layer.lora_A[name].weight.dtype)
        dropout = layer.lora_dropout[name]
        if layer.training and isinstance(dropout, torch.nn.Dropout):
            x = _dropped(x, dropout.p, part.width, part.seed + number)
        delta: Tensor = layer.lora_B[name](layer.lora_A[name](x)) * layer.scaling[name]
        return delta.to(result.dtype)


def _dropped(x: Tensor, p: float, width: int, seed: int) -> Tensor:
    """Drop features by a seed of their own, so that a layer computed again drops the same."""
    generator = torch.Generator(x.device).manual_seed(seed)
    drawn = torch.rand(len(x), width, x.shape[-1], generator=generator, device=x.device)
    kept = x.new_ones(x.shape)  # beyond the width there is only padding
    kept[:, :width] = (drawn >= p).to(x.dtype) / (1 - p)
    return x * kept


@contextmanager
def mixing(model: Any, *, end_to_end: bool = False) -> Iterator[Mix]:
    """Let the model's adapter layers take mixed batches for as long as the block runs.

    Args:
        model: with all adapters.
        end_to_end: whether a batch is one line of all rows, or rows below each other.
    """
    mix = Mix(end_to_end=end_to_end)
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for number, layer in enumerate(layers):
        layer.forward = _forward_of(mix, layer, number)
    try:
        yield mix
    finally:
        for layer in layers:
            del layer.forward


def _forward_of(mix: Mix, layer: Any, number: int) -> Any:
    return lambda x, *_, **__: mix.forward(layer, number, x)


def weights_of(model: Any, adapter: str) -> list[torch.nn.Parameter]:
    """Return the weights of one adapter, in the order of the model's layers."""
    return [
        weight
        for name, weight in model.named_parameters()
        if "lora_" in name and adapter in name.split(".")
    ]
