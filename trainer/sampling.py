"""A model answers while it is trained: the answers, and how likely the sampler took each token for.

transformers' own `generate` reads knobs from the base's generation_config (top_k, a penalty of
repetition) that nobody set here, so that answers would come of another distribution than the one
that is trained. This loop samples the plain softmax at a temperature, and keeps its probabilities
as evidence: `require_same_policy` holds them against those that the training computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from foundation.errors import FlywheelError

TOLERANCE = {torch.float32: 1e-3}
"""Mean distance in log-probability per token, above which sampler and trainer are two models."""
ROUGH_TOLERANCE = 0.1
"""The same where the arithmetic has 8 to 11 bits: with a cache it adds up in another order."""


class SampledAnother(FlywheelError):
    """The answers come of another model than the one in training."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"sampling: got {found}, expected the adapter that is being trained, and no other. "
            "Nothing can be learned from another model's answers; this is a fault of the program."
        )


@dataclass(frozen=True)
class Sampling:
    """How to answer.

    Attributes:
        temperature: the logits are divided by it, above 0.
        max_new_tokens: longest answer.
        ends: tokens that end an answer.
        pad: token to fill up with.
    """

    temperature: float
    max_new_tokens: int
    ends: tuple[int, ...]
    pad: int


@dataclass(frozen=True)
class Sampled:
    """Answers to prompts, one each, in order.

    Attributes:
        prompts: token ids.
        answers: token ids, the end token included; without one the answer was cut.
        log_probs: of each token of the answers, as the sampler saw it.
    """

    prompts: list[list[int]]
    answers: list[list[int]]
    log_probs: list[list[float]]


@torch.no_grad()
def sample(model: Any, prompts: Sequence[Sequence[int]], how: Sampling) -> Sampled:
    """Answer each prompt once, with torch's own random numbers.

    A prompt that is asked several times is read once. A row leaves the batch when it has ended.
    """
    device = model.device
    distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    ids, mask = _left_padded([list(prompt) for prompt in distinct], how.pad, device)
    said = model(input_ids=ids, attention_mask=mask, position_ids=_positions(mask), use_cache=True)
    asked = torch.tensor([distinct[tuple(prompt)] for prompt in prompts], device=device)
    cache, logits, mask = said.past_key_values, said.logits[asked, -1], mask[asked]
    cache.batch_select_indices(asked)
    ends = torch.tensor(how.ends, device=device)
    live = torch.arange(len(prompts), device=device)
    answers: list[list[int]] = [[] for _ in prompts]
    log_probs: list[list[float]] = [[] for _ in prompts]
    for _ in range(how.max_new_tokens):
        likely = (logits.float() / how.temperature).log_softmax(-1)  # (live, vocabulary)
        token = torch.multinomial(likely.exp(), 1)  # (live, 1)
        chosen = likely.gather(1, token)
        for row, one, value in zip(
            live.tolist(), token.flatten().tolist(), chosen.flatten().tolist(), strict=True
        ):
            answers[row].append(one)
            log_probs[row].append(value)
        goes_on = ~torch.isin(token.flatten(), ends)
        if not goes_on.any():
            break
        if not goes_on.all():
            live, token, mask = live[goes_on], token[goes_on], mask[goes_on]
            cache.batch_select_indices(goes_on.nonzero().flatten())
        mask = torch.cat([mask, torch.ones_like(token)], dim=1)
        said = model(
            input_ids=token,
            attention_mask=mask,
            position_ids=_positions(mask)[:, -1:],
            past_key_values=cache,
            use_cache=True,
        )
        cache, logits = said.past_key_values, said.logits[:, -1]
    return Sampled([list(prompt) for prompt in prompts], answers, log_probs)


def require_trained_adapter(model: Any) -> None:
    """Check that what answers is the adapter that gradients go to: active, not merged, alone.

    Raises:
        SampledAnother: naming what is wrong.
    """
    if not isinstance(model, PeftModel):
        raise SampledAnother(f"a {type(model).__name__} without an adapter")
    for layer in (one for one in model.modules() if isinstance(one, BaseTunerLayer)):
        if layer.merged:
            raise SampledAnother("an adapter that is merged into the base")
        if layer.disable_adapters:
            raise SampledAnother("the base with its adapter switched off")
        if list(layer.active_adapters) != ["default"]:
            raise SampledAnother(f"the adapters {list(layer.active_adapters)}")
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    other = [name for name in trained if "lora_" in name and ".default." not in name]
    if not trained or other:
        raise SampledAnother(f"gradients for {other[:3] or 'no weight'}")


def require_same_policy(
    sampled: torch.Tensor, trained: torch.Tensor, mask: torch.Tensor, dtype: torch.dtype
) -> float:
    """Check that sampler and trainer take the answers for equally likely; return the distance.

    Args:
        sampled: log-probabilities as the sampler saw them, (rows, tokens).
        trained: as the model in training computes them, before its next step.
        mask: 1 where there is a token.
        dtype: of the arithmetic.

    Raises:
        SampledAnother: they are two models.
    """
    distance = ((sampled - trained).abs() * mask).sum() / mask.sum().clamp(min=1)
    gap = float(distance)
    if not gap <= TOLERANCE.get(dtype, ROUGH_TOLERANCE):  # a NaN is no agreement
        raise SampledAnother(f"answers whose tokens are {gap:.3g} (log-probability) off")
    return gap


def right_padded(rows: Sequence[Sequence[float]], fill: float, device: Any) -> torch.Tensor:
    """Return rows of different lengths as one tensor, filled up at their ends."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=device)


def _left_padded(
    rows: Sequence[Sequence[int]], pad: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = [[*[pad] * (width - len(row)), *row] for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Count tokens from the first real one; padding stands at 0."""
    return (mask.cumsum(1) - 1).clamp(min=0)
