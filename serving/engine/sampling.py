"""The choice of the next token of each row."""

from collections.abc import Sequence

import torch
from torch import Tensor

from serving.engine.answer import Answer
from serving.rows import Row


def choose(logits: Tensor, answers: Sequence[Answer]) -> Tensor:
    """Return one token id per row: the likeliest where the temperature is 0, else a drawn one.

    Drawn by inverting the cumulative distribution at the row's own number, so that a row gets the
    same token whatever stands beside it. Rows are narrowed by top-k, then min-p, then top-p.

    Args:
        logits: rows x vocabulary, fp32.
        answers: one per row.
    """
    best = logits.argmax(-1)
    drawn = [i for i, answer in enumerate(answers) if answer.row.temperature > 0]
    if not drawn:
        return best
    rows = [answers[i].row for i in drawn]
    if len(drawn) < len(answers):
        logits = logits[_like(drawn, best)]
    heats = _like([max(row.temperature, 1e-4) for row in rows], logits)
    chances = torch.softmax(logits / heats[:, None], dim=-1)  # rows x vocab
    narrow = [i for i, row in enumerate(rows) if row.top_p < 1 or row.top_k or row.min_p]
    if narrow:
        at = _like(narrow, best)
        chances[at] = _narrowed(chances[at], [rows[i] for i in narrow])
    heights = chances.cumsum(-1)
    levels = _like([answers[i].draw for i in drawn], logits) * heights[:, -1]
    found = torch.searchsorted(heights, levels[:, None], right=True).squeeze(1)
    found = found.clamp(max=logits.shape[-1] - 1)
    if len(drawn) == len(answers):
        return found
    best[_like(drawn, best)] = found
    return best


def _narrowed(chances: Tensor, rows: Sequence[Row]) -> Tensor:
    """Return the chances with 0 where a row's top-k, min-p or top-p leaves a token out."""
    ordered, order = chances.sort(dim=-1, descending=True)
    n_kept = _like([row.top_k or chances.shape[-1] for row in rows], order)
    outside = torch.arange(chances.shape[-1], device=chances.device)[None] >= n_kept[:, None]
    outside |= ordered < ordered[:, :1] * _like([row.min_p for row in rows], ordered)[:, None]
    ordered = ordered.masked_fill(outside, 0)
    tops = _like([row.top_p for row in rows], ordered)[:, None] * ordered.sum(-1, keepdim=True)
    outside |= ordered.cumsum(-1) - ordered >= tops
    return chances.masked_fill(outside.gather(-1, order.argsort(-1)), 0)


def _like(values: Sequence[float], of: Tensor) -> Tensor:
    return torch.tensor(values, dtype=of.dtype, device=of.device)
