"""Attention for rows that lie end to end in one: each row sees itself only, and nothing is padded.

transformers keeps such rows apart by a mask over all pairs of tokens, which costs the square of the
whole batch. Here each row is attended to alone, so the cost is that of the rows, and the result is
that of padded batches. `keep_rows_apart` proves it on the base at hand before it is relied upon.
"""

from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

APART: Final = "flywheel_apart"
_PLAIN: Final = ("softcap", "s_aux", "position_bias", "head_mask")
"""What an attention may ask for that this one does not do."""
_CHANGE: Final = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Share of the spread of the logits that another row before it may change, by rounding."""
_ROUNDING: Final = {torch.float32: 1e-2, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""Share of it by which two ways to compute the same may differ."""


class NotPlain(ValueError):
    """A base whose attention is more than a causal softmax, with or without a window."""


def attention_apart(
    module: torch.nn.Module,
    query: torch.Tensor,  # 1 x heads x tokens x width
    key: torch.Tensor,  # 1 x key heads x tokens x width
    value: torch.Tensor,  # as key
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each row; a function of transformers' attention interface.

    Raises:
        NotPlain: the model asks for what this attention does not do, or does not tell the rows.
    """
    ends = kwargs.get("cu_seq_lens_q")
    asked = [name for name in _PLAIN if kwargs.get(name) is not None]
    if asked or ends is None or attention_mask is not None or query.shape[0] != 1:
        raise NotPlain(f"attention with {asked or 'a mask, or rows that are not laid end to end'}")
    window = kwargs.get("sliding_window")
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and not dropout:
        return _by_kernel(query, key, value, ends, kwargs["max_length_q"], scaling, window), None
    lengths = ends.diff().tolist()
    each = zip(*(torch.split(states, lengths, 2) for states in (query, key, value)), strict=True)
    rows = [_within(q, k, v, dropout, scaling, window) for q, k, v in each]
    return torch.cat(rows, 2).transpose(1, 2).contiguous(), None  # 1 x tokens x heads x width


def _within(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    n_tokens = query.shape[2]
    mask = None
    if window is not None and n_tokens > window:
        place = torch.arange(n_tokens, device=query.device)
        back = place[:, None] - place
        mask = (back >= 0) & (back < window)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Attend with torch's kernel for rows of unequal lengths, on a GPU."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))  # tokens first
    found = varlen_attn(
        q,
        k,
        v,
        ends,
        ends,
        longest,
        longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return torch.as_tensor(found)[None]


AttentionInterface.register(APART, attention_apart)


def keep_rows_apart(model: Any) -> bool:
    """Let a model attend to rows that lie end to end one by one; False where that would be wrong.

    Proven on the model itself before it is relied upon. Two rows are laid end to end, then the
    first is replaced by other tokens: what the second one is answered must stay, but for rounding,
    and be what it is answered alone. What carries a state from token to token, as layers of linear
    attention do, fails this; its rows have to be padded, and it is left as it was.
    """
    was_training, own = model.training, model.config._attn_implementation
    model.eval()
    with torch.no_grad():
        alone = _logits(model, [_row(1)])
        try:
            model.set_attn_implementation(APART)
            behind, behind_another = (_logits(model, [_row(n), _row(1)]) for n in (3, 7))
            holds = _share(behind, behind_another) < _CHANGE[model.dtype]
            holds = holds and _share(behind, alone) < _ROUNDING[model.dtype]
        except (NotPlain, TypeError):
            holds = False
    model.train(was_training)
    if not holds:
        model.set_attn_implementation(own)
    return holds


def _share(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the greatest difference as a share of the spread."""
    return float((one - other).abs().max() / one.std().clamp(min=1e-6))


def _row(n: int, n_tokens: int = 24) -> torch.Tensor:
    """Return ids that follow no pattern but are the same each time, another row for another n."""
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n_tokens,), generator=generator)


def _logits(model: Any, rows: list[torch.Tensor]) -> torch.Tensor:
    """Return the logits of the last of the rows, tokens x ids, as they lie end to end."""
    n_ids = model.get_input_embeddings().weight.shape[0]
    lengths = torch.tensor([0, *(len(row) for row in rows)])
    ends, longest = lengths.cumsum(0).to(model.device, torch.int32), int(lengths.max())
    found = model(
        input_ids=(torch.cat(rows) % n_ids)[None].to(model.device),
        position_ids=torch.cat([torch.arange(len(row)) for row in rows])[None].to(model.device),
        use_cache=False,
        cu_seq_lens_q=ends,
        cu_seq_lens_k=ends,
        max_length_q=longest,
        max_length_k=longest,
    ).logits
    return torch.as_tensor(found)[0, -len(rows[-1]) :].float()
