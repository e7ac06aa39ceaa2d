"""How likely texts are to a model, token by token; nothing is generated."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

LOGITS_AT_ONCE = 2**26
"""Logits held while texts are scored (rows x tokens x vocabulary): 256 MiB in fp32."""

Likelihoods = tuple[list[float], list[int], list[float]]
"""From the second token on: log-probability, the likeliest token's id, its log-probability."""


def likelihoods(model: Any, rows: Sequence[list[int]], pad: int) -> list[Likelihoods]:
    """Return how likely each row's tokens are, from its second on.

    Rows are padded on the right, where causal attention never looks. A few tokens of all rows at
    a time are read over a key/value cache, so that the logits fit.

    Args:
        model: with the rows' adapter selected.
        rows: token ids, at least one each.
        pad: any token id.
    """
    longest = max(len(row) for row in rows)
    device = next(model.parameters()).device
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    step = max(1, LOGITS_AT_ONCE // (len(rows) * model.config.get_text_config().vocab_size))
    cache = DynamicCache(config=model.config)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, longest - 1, step):
        end = min(start + step, longest - 1)
        logits = model(
            input_ids=ids[:, start:end],
            position_ids=torch.arange(start, end, device=device)[None],
            past_key_values=cache,
            use_cache=True,
        ).logits
        logprobs = logits.float().log_softmax(-1)  # rows x tokens x vocab
        after = ids[:, start + 1 : end + 1, None]
        best = logprobs.max(-1)
        parts.append((logprobs.gather(-1, after)[..., 0], best.indices, best.values))
    if not parts:
        return [([], [], []) for _ in rows]
    chosen, best_ids, highest = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return [
        (chosen[i, :n].tolist(), best_ids[i, :n].tolist(), highest[i, :n].tolist())
        for i, n in enumerate(len(row) - 1 for row in rows)
    ]
