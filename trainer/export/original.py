"""What is exported: a base with an adapter over it, or a whole model, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer

from trainer.base import is_folder, is_trusted, load_config, load_model, load_tokenizer
from trainer.export.merge import longest_prompt, merged_folder, over
from trainer.export.parity import (
    ANSWER_TOKENS,
    Ids,
    Parity,
    Said,
    Speaker,
    Tolerance,
    TorchSpeaker,
    end_tokens,
    judge,
    listen,
    with_pass_rate,
)
from trainer.export.prompts import MOST, PLAIN, Asked, Messages, asked
from trainer.rewards import Reward

GRADED_TOKENS: Final = 256
"""Of answers that are graded: one cut short would fail for its length."""

MOST_GRADED: Final = 200
"""Prompts of a comparison by graded tasks: a point of the pass rate is two of them."""


@dataclass(frozen=True)
class Graded:
    """Tasks whose answers are graded, so that the pass rates of both are compared."""

    rows: Sequence[dict[str, Any]]
    reward: Reward


@dataclass(frozen=True)
class Original:
    """A version to export, and what it says in 32 bits; each is found out once.

    Attributes:
        name: of the version.
        base_model: folder or hub name; of a whole model its own folder.
        adapter: of PEFT, or None for a whole model.
        work: a folder for what is needed on the way; the caller removes it.
        prompts: by which copies are compared.
        graded: tasks to ask instead, whose answers are graded.
    """

    name: str
    base_model: str
    adapter: Path | None
    work: Path
    prompts: Sequence[Messages] = PLAIN
    graded: Graded | None = None
    _whole: dict[torch.dtype | None, Path] = field(default_factory=dict, repr=False)

    @cached_property
    def tokenizer(self) -> Any:
        """As the base has it, not as a training needs it."""
        load_tokenizer(self.base_model)  # which says what is wrong with it
        trusted = is_trusted(self.base_model)
        return AutoTokenizer.from_pretrained(self.base_model, trust_remote_code=trusted)

    @cached_property
    def base_folder(self) -> Path:
        """The base's files on this machine."""
        if is_folder(self.base_model):
            return Path(self.base_model)
        return Path(snapshot_download(self.base_model))

    @cached_property
    def asked(self) -> list[Asked]:
        """The prompts that are not too long, as its chat template shows them."""
        longest = longest_prompt(self.config, self.n_tokens)
        return asked(self.tokenizer, self.prompts, longest, MOST_GRADED if self.graded else MOST)

    @property
    def ids(self) -> list[Ids]:
        """The same as ids."""
        return [one.ids for one in self.asked]

    @cached_property
    def config(self) -> Any:
        """The base's, or the whole model's."""
        return load_config(self.base_model)

    @property
    def n_tokens(self) -> int:
        """Greedy tokens of each answer; of a short context at most half."""
        wanted = GRADED_TOKENS if self.graded else ANSWER_TOKENS
        return min(wanted, int(self.config.max_position_embeddings) // 2)

    @property
    def said(self) -> Said:
        """What the original says to the prompts, in 32 bits."""
        return self._heard[0]

    @property
    def ends(self) -> list[int]:
        """Ids that end an answer."""
        return self._heard[1]

    @cached_property
    def _heard(self) -> tuple[Said, list[int]]:
        model = self.load()
        ends = end_tokens(model, self.tokenizer)
        return listen(TorchSpeaker(model, ends), self.ids, n_tokens=self.n_tokens), ends

    def load(self) -> Any:
        """Return the model in 32 bits, its adapter over it."""
        base = load_model(self.base_model)
        return base if self.adapter is None else over(base, self.adapter)

    def whole(self, dtype: torch.dtype | None = None) -> Path:
        """Return a folder of one whole model; an adapter is merged into its base for it.

        Args:
            dtype: of a merge; None: the base's own.

        Raises:
            ParityFailed: the merge is not its adapter, or changes nothing.
        """
        if self.adapter is None:
            return self.base_folder
        if dtype not in self._whole:
            folder = self.work / f"whole-{dtype or 'own'}"
            merged_folder(self.base_model, self.adapter, folder, self.prompts, dtype)
            self._whole[dtype] = folder
        return self._whole[dtype]

    def hear(self, speaker: Speaker) -> Said:
        """Return what a copy says to the prompts, heard along the original's answers."""
        return listen(speaker, self.ids, self.said.answers, self.n_tokens)

    def hear_model(self, model: Any) -> Said:
        """The same of a model of transformers."""
        return self.hear(TorchSpeaker(model, self.ends))

    def judge(self, copy: Said, tolerance: Tolerance, **measures: Any) -> Parity:
        """Return the verdict on a copy; where tasks are graded, on its pass rate, too."""
        parity = judge(self.said, copy, tolerance, **measures)
        if self.graded is None:
            return parity
        return with_pass_rate(parity, self.pass_rate(self.said), self.pass_rate(copy))

    def pass_rate(self, said: Said) -> float | None:
        """Return the mean reward of answers; None where nothing could be said of any."""
        assert self.graded is not None
        rows = [self.graded.rows[one.place] for one in self.asked]
        answers = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in said.answers]
        rewards = [r for r in self.graded.reward(rows, answers) if r is not None]
        return sum(rewards) / len(rewards) if rewards else None
