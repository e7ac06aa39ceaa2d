"""Structured pruning: whole attention heads or MLP neurons leave, and the matrices get smaller.

Each layer loses the same share, so that one config describes them all and any library loads the
result. What leaves is what the loss would miss least, by the first-order term of its Taylor series
(Molchanov et al., arXiv 1611.06440): |activation x gradient| over the version's own data. Heads
leave every group of queries that share keys and values in equal number, so that the groups stay
whole; keys and values stay, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from foundation.errors import BadInput
from trainer.base import load_model, load_tokenizer
from trainer.compress.measure import n_bytes, speed_ratio
from trainer.compress.ways import HEADS, NEURONS, require_share
from trainer.data import IGNORED, Row, encode, require_labels
from trainer.export.merge import longest_prompt

MOST_ROWS: Final = 128
"""Rows that importance is measured on."""
BATCH: Final = 8
MULTIPLE: Final = 8
"""Neurons are kept in multiples of it, which matrix products on any hardware prefer."""


@dataclass(frozen=True)
class Pruned:
    """A pruned model in a folder, and what it is beside its source.

    Attributes:
        folder: weights (safetensors), config and tokenizer.
        what: heads or neurons.
        kept: of each layer, beside `of`.
        of: heads or neurons of each layer before.
        n_bytes: of its weights on the disk.
        size_ratio: bytes of the source over its own.
        speed_ratio: tokens that it says while its source says one, on this machine.
        loss_before: of the source, per answer token of the rows, in nats.
        loss_after: of the pruned model, before anything is recovered.
    """

    folder: Path
    what: str
    kept: int
    of: int
    n_bytes: int
    size_ratio: float
    speed_ratio: float
    loss_before: float
    loss_after: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures, as a version keeps them."""
        return {
            "what": self.what,
            "kept": self.kept,
            "of": self.of,
            "size_bytes": self.n_bytes,
            "size_ratio": round(self.size_ratio, 3),
            "speed_ratio": round(self.speed_ratio, 3),
            "loss_before": self.loss_before,
            "loss_after": self.loss_after,
        }


def pruned(source: str, what: str, share: float, rows: Sequence[Row], target: Path) -> Pruned:
    """Write a model without the least important share of its heads or neurons into a folder.

    Args:
        source: folder or hub name of a whole model, in the shape of Llama or Qwen2.
        what: heads or neurons.
        share: of them that leaves each layer, above 0, below 1.
        rows: that importance is measured on, as sft reads them; the first `MOST_ROWS`.
        target: a folder to make.

    Raises:
        BadInput: another part or share, a model of another shape, or no row to measure by.
    """
    require_share(what, share)
    model, tokenizer = load_model(source), load_tokenizer(source)
    layers = layers_of(model)
    learned = encode(rows[:MOST_ROWS], tokenizer, longest_prompt(model.config))
    require_labels(learned.labels, "rows that importance is measured on")
    batches = _batches(learned.input_ids, learned.labels, int(tokenizer.pad_token_id))
    importance, loss_before = measured_importance(model, batches, what)
    kept = [chosen(of_layer, share, what, model.config) for of_layer in importance]
    smaller = cut(model, layers, kept, what)
    smaller.save_pretrained(target)
    tokenizer.save_pretrained(target)
    copy = load_model(str(target)).eval()
    prompts = [
        ids[: labels.count(IGNORED)]
        for ids, labels in zip(learned.input_ids[:BATCH], learned.labels[:BATCH], strict=True)
    ]
    return Pruned(
        folder=target,
        what=what,
        kept=len(kept[0]),
        of=len(importance[0]),
        n_bytes=n_bytes(str(target)),
        size_ratio=n_bytes(source) / n_bytes(str(target)),
        speed_ratio=speed_ratio(model, copy, prompts),
        loss_before=loss_before,
        loss_after=mean_loss(copy, batches),
    )


def layers_of(model: Any) -> list[Any]:
    """Return the model's blocks; raises BadInput where they have no plain attention and MLP."""
    layers = list(getattr(model.get_decoder(), "layers", ()))
    wanted = {
        "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "mlp": ("gate_proj", "up_proj", "down_proj"),
    }
    for layer in layers or [None]:
        for part, names in wanted.items():
            for name in names:
                if not isinstance(getattr(getattr(layer, part, None), name, None), torch.nn.Linear):
                    raise BadInput(
                        "shape of the model",
                        model.config.model_type,
                        "blocks in the shape of Llama or Qwen2: q, k, v, o; gate, up, down",
                        "Quantise it instead.",
                    )
    return layers


def measured_importance(
    model: Any, batches: Sequence[tuple[Tensor, Tensor]], what: str
) -> tuple[list[Tensor], float]:
    """Return, per layer, how much the loss would miss each head or neuron; and the loss itself.

    The product of activation and gradient is summed over what belongs to the part (a head has many
    channels) before its absolute value is taken, per token; then summed over tokens.
    """
    model.eval().requires_grad_(False)
    model.get_input_embeddings().weight.requires_grad_(True)  # something must ask for gradients
    outputs = [
        layer.mlp.down_proj if what == NEURONS else layer.self_attn.o_proj
        for layer in layers_of(model)
    ]
    width = 1 if what == NEURONS else head_width(model.config)
    found = [torch.zeros(output.in_features // width) for output in outputs]
    total, n_tokens = 0.0, 0
    for ids, labels in batches:
        held: list[Tensor] = []
        hooks = [output.register_forward_pre_hook(_holding(held)) for output in outputs]
        loss = _loss(model, ids, labels)
        for hook in hooks:
            hook.remove()
        gradients = torch.autograd.grad(loss, held)
        for importance, activation, gradient in zip(found, held, gradients, strict=True):
            product = (activation * gradient).detach()  # rows x tokens x channels
            importance += product.view(-1, len(importance), width).sum(-1).abs().sum(0)
        total += float(loss.detach())
        n_tokens += int((labels[:, 1:] != IGNORED).sum())
    return found, total / n_tokens


def chosen(importance: Tensor, share: float, what: str, config: Any) -> list[int]:
    """Return which heads or neurons of a layer stay, in their order; at least one of each group.

    Raises:
        BadInput: the share leaves nothing to take away, or nothing over.
    """
    groups = config.num_key_value_heads if what == HEADS else 1
    of_group = importance.view(groups, -1)
    size = of_group.shape[1]
    n_kept = round(size * (1 - share))
    if what == NEURONS and size > MULTIPLE:
        n_kept = max(MULTIPLE, n_kept // MULTIPLE * MULTIPLE)
    if not 0 < n_kept < size:
        raise BadInput(
            "share to prune",
            share,
            f"one that leaves some, not all, of the {size} {what} of each group",
            "Groups of one head have none to spare: prune neurons." if size == 1 else "Change it.",
        )
    best = of_group.topk(n_kept, dim=1).indices.sort(dim=1).values
    stays: list[int] = (best + torch.arange(groups)[:, None] * size).flatten().tolist()
    return stays


def cut(model: Any, layers: Sequence[Any], kept: Sequence[Sequence[int]], what: str) -> Any:
    """Return a smaller model of the same class, of the weights that stay."""
    config = model.config.__class__.from_dict(model.config.to_dict())
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    names = {id(module): name for name, module in model.named_modules()}
    width = head_width(model.config)
    for layer, stays in zip(layers, kept, strict=True):
        prefix = names[id(layer)]
        rows: tuple[str, ...]
        if what == NEURONS:
            rows, columns = ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"
            places = torch.tensor(stays)
        else:
            rows, columns = ("self_attn.q_proj",), "self_attn.o_proj"
            places = (torch.tensor(stays)[:, None] * width + torch.arange(width)).flatten()
        for name in rows:
            for part in ("weight", "bias"):
                key = f"{prefix}.{name}.{part}"
                if key in weights:
                    weights[key] = weights[key][places]
        key = f"{prefix}.{columns}.weight"
        weights[key] = weights[key][:, places]
    if what == NEURONS:
        config.intermediate_size = len(kept[0])
    else:
        config.num_attention_heads, config.head_dim = len(kept[0]), width
    smaller = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    smaller.load_state_dict(weights)
    smaller.generation_config = model.generation_config
    return smaller.eval()


def head_width(config: Any) -> int:
    """Return the channels of an attention head."""
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


@torch.no_grad()
def mean_loss(model: Any, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return the loss per answer token, in nats."""
    total = sum(float(_loss(model, ids, labels)) for ids, labels in batches)
    return total / sum(int((labels[:, 1:] != IGNORED).sum()) for _, labels in batches)


def _loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Return the summed loss; padding is at the right of causal attention and needs no mask."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum"
    )


def _holding(held: list[Tensor]) -> Any:
    def hold(_: Any, inputs: tuple[Tensor, ...]) -> None:
        held.append(inputs[0])

    return hold


def _batches(
    ids: Sequence[list[int]], labels: Sequence[list[int]], pad: int
) -> list[tuple[Tensor, Tensor]]:
    """Return batches of rows, padded at the right; rows of like length stand together."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    some = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    return [
        (_padded([ids[i] for i in rows], pad), _padded([labels[i] for i in rows], IGNORED))
        for rows in some
    ]


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)
