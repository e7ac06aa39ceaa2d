"""A reward model that was trained here, loaded again: what it says an answer is worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
from trl.trainer.reward_trainer import suppress_seqcls_warning

from foundation.chat import Message, message
from trainer.arguments import precision_of
from trainer.base import load_model, load_tokenizer
from trainer.data import ids_of, split_text
from trainer.recipe import Recipe

AT_ONCE = 8
"""Answers that are scored in one batch."""


class OneScore:
    """transformers' class of a model that says one number, for `trainer.base.load_model`."""

    @staticmethod
    def from_pretrained(base_model: str, **options: Any) -> Any:
        """Return the base with a head of one output, drawn at random."""
        with suppress_seqcls_warning():  # a report of the missing head, which is missing by design
            return AutoModelForSequenceClassification.from_pretrained(
                base_model, num_labels=1, **options
            )


class RewardModel:
    """A base with a reward adapter and its head; deterministic, without gradients.

    Args:
        base_model: folder or hub name.
        folder: of the version's files.

    Raises:
        NotFound: no such base.
    """

    def __init__(self, base_model: str, folder: Path) -> None:
        self.tokenizer = load_tokenizer(base_model)
        # Weights are drawn before they are read. A training that asks for a reward keeps its dice:
        # a resumed one loads the model again, at another place of them.
        with torch.random.fork_rng(devices=[]):
            base = load_model(base_model, precision=precision_of(Recipe()), kind=OneScore)
            base.config.get_text_config().pad_token_id = self.tokenizer.pad_token_id
            model = PeftModel.from_pretrained(base, str(folder))
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    @torch.no_grad()
    def scores(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        """Return the score of each answer to its prompt, in logits; no answers give no scores.

        Only differences between answers to one prompt have a meaning: that of 1 means that the
        better one is preferred in 73 % of the cases.
        """
        ids = [self._ids(prompt, answer) for prompt, answer in conversations]
        found: list[float] = []
        for start in range(0, len(ids), AT_ONCE):
            batch = self.tokenizer.pad(
                {"input_ids": ids[start : start + AT_ONCE]}, return_tensors="pt"
            )
            logits = self.model(**batch.to(self.model.device)).logits  # (answers, 1)
            found += logits.squeeze(-1).float().tolist()
        return found

    def _ids(self, prompt: Sequence[Message], answer: str) -> list[int]:
        row = {"prompt": list(prompt), "completion": [message("assistant", answer)]}
        texts = split_text(row, self.tokenizer)
        return [token for text in texts for token in ids_of(text, self.tokenizer)]
