"""How much a prompt helps: IFD, the loss of an answer given its prompt over its loss alone.

About 1 or more says that the prompt told a model nothing about the answer, which then hardly
answers it; near 0 that the answer only repeats the prompt. Measured by a small base model.

Source: Li et al. 2023, "From quantity to quality" (instruction-following difficulty), and Li et
al. 2024, "Superfiltering": a small model ranks as a large one does. We cut long texts, see
`MAX_TOKENS`. One of the two files of this room that load torch, and only when a recipe asks for it.
"""

import hashlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

from curation.score.outcome import Attempt
from foundation.errors import MissingExtra, NotFound

MAX_TOKENS: Final = 512
"""Of the prompt (its end) and of the answer (its beginning); less where the model takes less."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """The IFD of one attempt, and a hash of what it was measured on."""

    value: float
    key: str

    def as_json(self) -> dict[str, Any]:
        """Return it as it is stored with the example."""
        return {"value": round(self.value, 4), "key": self.key}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return it as it was stored."""
        return cls(float(stored["value"]), str(stored["key"]))


def measure(
    model: str, attempts: Sequence[Attempt], known: Mapping[UUID, Difficulty] | None = None
) -> dict[UUID, Difficulty]:
    """Return the IFD of attempts by interaction; of those without prompt or answer there is none.

    Args:
        model: folder or hub name of a causal language model.
        attempts: to be measured.
        known: measured before; taken over where model and texts are the same.

    Raises:
        NotFound: there is no such model.
        MissingExtra: torch or transformers is not installed.
    """
    known, measured = known or {}, {}
    for attempt in attempts:
        identifier = attempt.interaction_id
        if identifier is None or not (attempt.prompt_text.strip() and attempt.answer.strip()):
            continue
        key = _key(model, attempt)
        stored = known.get(identifier)
        if stored is not None and stored.key == key:
            measured[identifier] = stored
            continue
        value = _ifd(model, attempt.prompt_text, attempt.answer)
        if value is not None:
            measured[identifier] = Difficulty(value, key)
    return measured


def _ifd(model: str, prompt: str, answer: str) -> float | None:
    """Return the ratio, or None where the answer is too short to have a loss."""
    loaded = _load(model)
    prompt_ids = loaded.token_ids(prompt + "\n")[-loaded.max_tokens :]
    answer_ids = loaded.token_ids(answer)[: loaded.max_tokens]
    if len(answer_ids) < 2:
        return None
    # Its first token has no loss without a prompt, so it counts in neither.
    alone = loaded.mean_loss(answer_ids, skip=1)
    given = loaded.mean_loss(prompt_ids + answer_ids, skip=len(prompt_ids) + 1)
    ratio = given / alone if alone > 0 else math.inf
    return ratio if math.isfinite(ratio) else None


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: Any
    model: Any

    @property
    def max_tokens(self) -> int:
        """Tokens of the prompt, and of the answer, that the model can take in."""
        positions = getattr(self.model.config, "max_position_embeddings", None) or 2 * MAX_TOKENS
        return min(MAX_TOKENS, int(positions) // 2)

    def token_ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def mean_loss(self, ids: list[int], skip: int) -> float:
        """Return the mean cross-entropy in nats of `ids[skip:]`, each given all before it."""
        import torch

        with torch.inference_mode():
            logits = self.model(torch.tensor([ids])).logits[0, skip - 1 : -1]
            target = torch.tensor(ids[skip:])
            return float(torch.nn.functional.cross_entropy(logits.float(), target))


@lru_cache(maxsize=1)
def _load(model: str) -> _Loaded:
    for module in ("torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(module, "train")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        loaded = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise NotFound(
            "base model for IFD (recipe ifd_model)",
            model,
            f"a {'readable model folder' if Path(model).exists() else 'folder or hub name'}",
            f"Correct it, or leave it out. The library said: {str(error).splitlines()[0]}",
        ) from error
    return _Loaded(tokenizer, loaded.eval())


def _key(model: str, attempt: Attempt) -> str:
    texts = f"{model}\0{attempt.prompt_text}\0{attempt.answer}"
    return hashlib.sha256(texts.encode("utf-8", "replace")).hexdigest()[:16]
