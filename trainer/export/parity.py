"""Whether two models are one: what they say to real prompts, and how far their logits lie apart.

Each answers the prompts greedily; then both read the source's answers, and their logits there are
compared. `judge` is pure: what was heard in, a verdict with its reasons out. Nothing here knows a
format: whoever can answer and give logits (`Speaker`) can be heard.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from foundation.errors import FlywheelError

ANSWER_TOKENS: Final = 48
"""Greedy tokens of each answer."""

HEARD_TOKENS: Final = 16
"""Places of each answer at which logits are compared, its first ones."""

BATCH: Final = 8

Ids = Sequence[int]
Matrix = NDArray[np.float32]


class ParityFailed(FlywheelError):
    """What was made is not what it was made of; it is not published."""

    exit_code = 1
    http_status = 409

    def __init__(self, what: str, reasons: Sequence[str]) -> None:
        self.what, self.reasons = what, tuple(reasons)
        super().__init__(
            f"{what}: {'; '.join(reasons)}. Nothing was published: take a finer format, or see "
            "docs/exporting.md on what each may lose."
        )


@dataclass(frozen=True)
class Tolerance:
    """What a copy may lose.

    Attributes:
        logit_error: greatest ‖copy - source‖ / ‖source‖ of centred logits.
        agreement: least share of prompts (0-1) answered with the very same greedy text.
        pass_points: greatest loss of the pass rate, in points; asked only where tasks are graded.
    """

    logit_error: float
    agreement: float
    pass_points: float = 1.0


@dataclass(frozen=True)
class Said:
    """What a model says: its greedy tokens to each prompt, and logits along the source's answers.

    Attributes:
        answers: token ids for each prompt, without the end token.
        logits: for each prompt, places x vocabulary.
    """

    answers: tuple[tuple[int, ...], ...]
    logits: tuple[Matrix, ...]


class Speaker(Protocol):
    """A model that can be heard."""

    def answers(self, prompts: Sequence[Ids], n_tokens: int) -> list[list[int]]:
        """Return the greedy continuation of each prompt, without the end token."""

    def logits(self, ids: Ids, keep: int) -> Matrix:
        """Return the logits at the last `keep` places of a text, keep x vocabulary."""


@dataclass(frozen=True)
class Parity:
    """How near a copy came, and why it is not published where it is not.

    Attributes:
        n_prompts: asked of both.
        logit_error: relative, of centred logits, over all places together.
        agreement: share of prompts with the same greedy text.
        tolerance: what was allowed.
        measures: what else was compared: token ids, pass rates, another reader's figures.
        reasons: against it; none: it passed.
    """

    n_prompts: int
    logit_error: float
    agreement: float
    tolerance: Tolerance
    measures: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """The verdict as it is stored."""
        return {**asdict(self), "reasons": list(self.reasons)}


def listen(
    speaker: Speaker,
    prompts: Sequence[Ids],
    along: Sequence[Ids] | None = None,
    n_tokens: int = ANSWER_TOKENS,
) -> Said:
    """Return what a model says to the prompts, and its logits along given answers or its own."""
    answers = speaker.answers(prompts, n_tokens)
    logits = heard_along(speaker, prompts, answers if along is None else along)
    return Said(tuple(tuple(answer) for answer in answers), logits)


def heard_along(
    speaker: Speaker, prompts: Sequence[Ids], answers: Sequence[Ids]
) -> tuple[Matrix, ...]:
    """Return the logits with which a model would say the first `HEARD_TOKENS` of given answers."""
    logits = []
    for prompt, answer in zip(prompts, answers, strict=True):
        heard = list(answer[: HEARD_TOKENS - 1])
        logits.append(speaker.logits([*prompt, *heard], len(heard) + 1))
    return tuple(logits)


def judge(source: Said, copy: Said, tolerance: Tolerance, **measures: Any) -> Parity:
    """Return the verdict on a copy that was heard along the source's answers.

    No prompt at all is a reason against it: nothing was compared.
    """
    n = len(source.answers)
    if n == 0:
        nothing = ("there was no prompt to compare by",)
        return Parity(0, float("inf"), 0.0, tolerance, measures, nothing)
    error = logit_error(source.logits, copy.logits)
    agreement = sum(a == b for a, b in zip(source.answers, copy.answers, strict=True)) / n
    reasons = []
    if not error <= tolerance.logit_error:  # so that NaN is a reason, too
        reasons.append(f"logits are off by {error:.2g}, allowed {tolerance.logit_error:g}")
    if agreement < tolerance.agreement:
        reasons.append(
            f"the same greedy text on {agreement:.0%} of {n} prompts, "
            f"expected {tolerance.agreement:.0%}"
        )
    return Parity(n, error, agreement, tolerance, measures, tuple(reasons))


def with_same_ids(parity: Parity, same: int, of: str = "same_ids") -> Parity:
    """Return the verdict with how many prompts were read as the same ids, which must be all."""
    reasons = parity.reasons
    if same != parity.n_prompts:
        reasons = (*reasons, f"{of}: {same} of {parity.n_prompts} prompts have the same token ids")
    return replace(parity, measures={**parity.measures, of: same}, reasons=reasons)


def with_reasons(parity: Parity, reasons: Sequence[str]) -> Parity:
    """Return the verdict with what else speaks against it, if anything does."""
    return replace(parity, reasons=(*parity.reasons, *reasons))


def with_pass_rate(parity: Parity, source: float | None, copy: float | None) -> Parity:
    """Return the verdict with the pass rates (0-1) of both; a loss beyond the tolerance fails."""
    measures = {**parity.measures, "pass_rate": copy, "source_pass_rate": source}
    allowed = parity.tolerance.pass_points
    reasons = parity.reasons
    if source is not None and (copy is None or 100 * (source - copy) > allowed):
        now = "nothing graded" if copy is None else f"{copy:.1%}"
        reasons = (
            *reasons,
            f"pass rate {now}, was {source:.1%}: allowed to lose {allowed:g} points",
        )
    return replace(parity, measures=measures, reasons=reasons)


def with_reader(parity: Parity, name: str, other: Parity) -> Parity:
    """Return the verdict with another reader's beside it; both must pass."""
    said = {
        "logit_error": other.logit_error,
        "agreement": other.agreement,
        **other.measures,
    }
    reasons = tuple(f"{name}: {reason}" for reason in other.reasons)
    return replace(
        parity, measures={**parity.measures, name: said}, reasons=parity.reasons + reasons
    )


def logit_error(source: Sequence[Matrix], copy: Sequence[Matrix]) -> float:
    """Return ‖copy - source‖ / ‖source‖ over all places; a shift of a whole row means nothing."""
    squared = total = 0.0
    for one, other in zip(source, copy, strict=True):
        if one.shape != other.shape:
            return float("inf")
        expected = _centred(one)
        squared += float(np.square(_centred(other) - expected).sum())
        total += float(np.square(expected).sum())
    return float(np.sqrt(squared / total)) if total else float("inf")


def _centred(logits: Matrix) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    centred: NDArray[np.float64] = wide - wide.mean(axis=-1, keepdims=True)
    return centred


class TorchSpeaker:
    """A transformers model, heard in the precision it was loaded in."""

    def __init__(self, model: Any, end_tokens: Sequence[int]) -> None:
        self.model, self.end_tokens = model.eval(), frozenset(end_tokens)

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Ids], n_tokens: int) -> list[list[int]]:
        """Return the greedy continuation of each prompt, without the end token.

        Own steps, not `generate`: a base's generation config may sample or punish repetition.
        """
        said: list[list[int]] = []
        for first in range(0, len(prompts), BATCH):
            said += self._batch(prompts[first : first + BATCH], n_tokens)
        return said

    def _batch(self, prompts: Sequence[Ids], n_tokens: int) -> list[list[int]]:
        longest = max(len(prompt) for prompt in prompts)
        device = self.model.device
        ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor(
            [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device
        )
        said: list[list[int]] = [[] for _ in prompts]
        going = set(range(len(prompts)))
        cache = None
        for _ in range(n_tokens):
            places = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            ids = out.logits[:, -1].argmax(-1, keepdim=True)
            for row, token in enumerate(ids[:, 0].tolist()):
                if row in going and token in self.end_tokens:
                    going.discard(row)
                elif row in going:
                    said[row].append(token)
            if not going:
                break
            mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
        return said

    @torch.inference_mode()
    def logits(self, ids: Ids, keep: int) -> Matrix:
        """Return the logits at the last `keep` places of a text, keep x vocabulary."""
        inputs = torch.tensor([list(ids)], device=self.model.device)
        out = self.model(input_ids=inputs, logits_to_keep=keep, use_cache=False)
        logits: Matrix = out.logits[0].float().cpu().numpy()
        return logits


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end an answer, of the generation config and of the tokenizer."""
    named = model.generation_config.eos_token_id
    known = named if isinstance(named, list) else [named]
    return sorted({token for token in (*known, tokenizer.eos_token_id) if token is not None})
