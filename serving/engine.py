"""The embedded engine: one small base model in this process, with hot-swapped adapters.

A plain decode loop over a key/value cache with left padding. At this size it beats
`model.generate`, whose bookkeeping per token costs more than the arithmetic; rows that are done
leave the batch. The only file outside `trainer` that loads torch.
"""

import hashlib
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging as transformers_logging

from foundation.chat import Message
from foundation.errors import BadInput, NotFound


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer.

    Attributes:
        text: without end token, and cut before the first stop string.
        input_tokens: tokens of the rendered prompt.
        output_tokens: tokens made, the end token included.
        finish_reason: `stop` (end token or stop string) or `length`.
    """

    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Scored:
    """A text as the model reads it, token by token.

    Attributes:
        tokens: the text in the tokenizer's pieces; a piece of a character reads as U+FFFD.
        offsets: where in the text each token begins, in characters.
        logprobs: natural logarithm of each token's probability after those before it; None for
            the first, which nothing stands before.
        best: the token that was the likeliest there, and its log-probability; None for the first.
    """

    tokens: list[str]
    offsets: list[int]
    logprobs: list[float | None]
    best: list[tuple[str, float] | None]


@dataclass(slots=True)
class _Row:
    """One prompt on its way through the decode loop."""

    prompt: list[int]
    limit: int
    temperature: float
    draws: Tensor  # limit; uniform in 0-1, one per token, independent of the other rows
    made: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""


LOGITS_AT_ONCE = 2**26
"""Logits held while texts are scored (rows x tokens x vocabulary): 256 MiB in fp32."""


class Engine:
    """A base model and its named adapters. Safe to call from several threads; they take turns.

    The same call with the same seed gives the same text on the same machine and thread count.
    """

    def __init__(self, model: Any, tokenizer: Any, max_rows: int = 256) -> None:
        """Takes a loaded causal model; most callers want `Engine.load`.

        Args:
            model: in evaluation mode.
            tokenizer: with a chat template.
            max_rows: rows decoded together; more are split into several batches.
        """
        self.tokenizer = tokenizer
        self.max_rows = max_rows
        self._base = model
        self._peft: PeftModel | None = None
        self._switched_to: tuple[str | None] | None = None  # None: not known
        self._turn = threading.RLock()
        ends = model.generation_config.eos_token_id
        ends = [tokenizer.eos_token_id] if ends is None else ends
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])

    @classmethod
    def load(cls, base_path: str | Path, *, threads: int | None = None) -> "Engine":
        """Loads a base model folder in fp32.

        Args:
            base_path: as `from_pretrained` takes it.
            threads: torch threads of this process; None leaves them as they are.

        Raises:
            NotFound: when the folder holds no model.
        """
        if not (Path(base_path) / "config.json").is_file():
            raise NotFound(
                "base model",
                str(base_path),
                "a folder with config.json and weights",
                "Build it (flywheel demo does), or correct the path.",
            )
        if threads is not None:
            torch.set_num_threads(threads)
        transformers_logging.disable_progress_bar()  # a server's stderr is a log
        model = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
        return cls(model.eval(), AutoTokenizer.from_pretrained(base_path))

    @property
    def peak_vram_mb(self) -> float | None:
        """Most MiB of GPU memory that tensors took so far; None if none is in use."""
        if not torch.cuda.is_available():
            return None
        return round(torch.cuda.max_memory_allocated() / 2**20, 1) or None

    @property
    def threads(self) -> int:
        """Torch threads of this process."""
        return torch.get_num_threads()

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the loaded adapters, in the order of loading."""
        return tuple(self._peft.peft_config) if self._peft is not None else ()

    def add_adapter(self, name: str, path: str | Path) -> None:
        """Loads a PEFT adapter folder under a name; a loaded name is replaced.

        Raises:
            NotFound: when the folder holds no adapter.
        """
        if not (Path(path) / "adapter_config.json").is_file():
            raise NotFound(
                f"adapter {name!r}",
                str(path),
                "a folder with adapter_config.json and weights",
                "Train it first, or correct the path.",
            )
        with self._turn:
            if name in self.adapters:
                self.remove_adapter(name)
            self._switched_to = None
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(self._base, str(path), adapter_name=name)
            else:
                self._peft.load_adapter(str(path), adapter_name=name)
            self._peft.eval()

    def remove_adapter(self, name: str) -> None:
        """Forgets an adapter; the base is then as it was before.

        Raises:
            NotFound: when no adapter has that name.
        """
        with self._turn:
            self._known(name)
            assert self._peft is not None
            self._switched_to = None
            if len(self.adapters) == 1:
                self._base, self._peft = self._peft.unload(), None
            else:
                others = [other for other in self.adapters if other != name]
                self._peft.set_adapter(others[0])  # peft warns when the active one goes
                self._peft.delete_adapter(name)

    def generate(
        self,
        prompts: Sequence[list[Message]],
        *,
        adapter: str | None | Sequence[str | None] = None,
        max_new_tokens: int | Sequence[int] = 128,
        temperature: float | Sequence[float] = 1.0,
        top_p: float = 1.0,
        seed: int | Sequence[int] = 0,
        stop: Sequence[str] = (),
    ) -> list[Generation]:
        """Answers each prompt; rows of one adapter are decoded together.

        Args:
            prompts: chats, each ending with what is to be answered; none gives an empty list.
            adapter: name, or None for the base; one for all rows or one per row.
            max_new_tokens: most tokens of an answer, at least 1; for all or per row.
            temperature: 0 is greedy; for all or per row.
            top_p: the smallest set of tokens with this probability is sampled from, in (0, 1].
            seed: one for all (each row then draws its own stream from it), or one per row (a row
                then draws the same numbers whatever stands beside it).
            stop: strings before which an answer is cut.

        Raises:
            NotFound: for an adapter that is not loaded.
            BadInput: for a setting out of range, or as many values as there are no rows.
        """
        n = len(prompts)
        seeds = [_mixed(seed, i) for i in range(n)] if isinstance(seed, int) else per_row(seed, n)
        limits, heats = per_row(max_new_tokens, n), per_row(temperature, n)
        _check(limits, heats, top_p)
        adapters: list[str | None] = per_row(adapter, n)
        rows = [
            _row(ids, limit, heat, row_seed)
            for ids, limit, heat, row_seed in zip(
                self._encode(prompts), limits, heats, seeds, strict=True
            )
        ]
        for name in dict.fromkeys(adapters):
            self._known(name)
            chosen = [row for row, wanted in zip(rows, adapters, strict=True) if wanted == name]
            chosen.sort(key=lambda row: len(row.prompt))
            for start in range(0, len(chosen), self.max_rows):
                for _ in self._decode(chosen[start : start + self.max_rows], name, top_p, stop):
                    pass
        return [_finished(row) for row in rows]

    def stream(
        self,
        prompt: list[Message],
        *,
        adapter: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> Generator[str, None, Generation]:
        """Yields an answer piece by piece; the generator's return value is the `Generation`.

        The pieces joined are its text. Text that may be the start of a stop string, or of a
        character cut in the middle, is held back until it is known. With the same seed the answer
        is that of `generate` with `seed=[seed]`. Other callers' steps run between the tokens.
        """
        _check([max_new_tokens], [temperature], top_p)
        self._known(adapter)
        row = _row(self._encode([prompt])[0], max_new_tokens, temperature, seed)
        sent = 0
        for _ in self._decode([row], adapter, top_p, stop):
            safe = row.text if row.finish_reason else _certain(self._text(row), stop)
            if len(safe) > sent:
                yield safe[sent:]
                sent = len(safe)
        return _finished(row)

    def score(self, texts: Sequence[str], *, adapter: str | None = None) -> list[Scored]:
        """Returns how likely each text is to a model, token by token; nothing is generated.

        Texts are padded on the right, where causal attention never looks, so that a text's score
        does not depend on what stands beside it, but for the rounding of matrix products.

        Args:
            texts: as they are, without chat template; the tokenizer adds its start token, if any.
            adapter: name, or None for the base.

        Raises:
            NotFound: for an adapter that is not loaded.
        """
        self._known(adapter)
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), return_offsets_mapping=True)
        ids: list[list[int]] = encoded["input_ids"]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        scored: dict[int, Scored] = {}
        for start in range(0, len(order), self.max_rows):
            indexes = order[start : start + self.max_rows]
            found = self._score([ids[index] for index in indexes], adapter)
            for index, (chosen, best_ids, best) in zip(indexes, found, strict=True):
                names = [self.tokenizer.decode([token]) for token in best_ids]
                scored[index] = Scored(
                    [self.tokenizer.decode([token]) for token in ids[index]],
                    [first for first, _ in encoded["offset_mapping"][index]],
                    [None, *chosen],
                    [None, *zip(names, best, strict=True)],
                )
        return [scored[index] for index in range(len(ids))]

    def _score(
        self, rows: Sequence[list[int]], adapter: str | None
    ) -> list[tuple[list[float], list[int], list[float]]]:
        """Returns per row, from its second token on: log-probabilities, likeliest ids, theirs.

        A few tokens of all rows at a time over a key/value cache, so that the logits fit.
        """
        longest = max(len(row) for row in rows)
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id or 0)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        vocab = self._base.config.get_text_config().vocab_size
        step = max(1, LOGITS_AT_ONCE // (len(rows) * vocab))
        cache = DynamicCache(config=self._base.config)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for start in range(0, longest - 1, step):
            end = min(start + step, longest - 1)
            with self._serving(adapter) as model:
                logits = model(
                    input_ids=ids[:, start:end],
                    position_ids=torch.arange(start, end)[None],
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

    def _encode(self, prompts: Sequence[list[Message]]) -> list[list[int]]:
        if not prompts:
            return []
        rendered = self.tokenizer.apply_chat_template(
            list(prompts), tokenize=False, add_generation_prompt=True
        )
        ids: list[list[int]] = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids

    def _text(self, row: _Row) -> str:
        made = row.made[:-1] if row.made and row.made[-1] in self._ends else row.made
        text: str = self.tokenizer.decode(made, skip_special_tokens=True)
        return text

    def _known(self, name: str | None) -> None:
        if name is not None and name not in self.adapters:
            raise NotFound(
                "adapter",
                name,
                f"one of {list(self.adapters)} or None",
                "Load it with add_adapter first.",
            )

    @contextmanager
    def _serving(self, adapter: str | None) -> Iterator[Any]:
        """Takes the turn and yields the model with `adapter` (or none) switched on."""
        with self._turn, torch.inference_mode():
            self._known(adapter)
            if self._peft is None:
                yield self._base
            else:
                self._switch(self._peft, adapter)
                yield self._peft.base_model.model

    def _switch(self, peft: PeftModel, adapter: str | None) -> None:
        """Switches to an adapter, or all off, where that is not so already.

        Not peft's `disable_adapter` around each token: walking all layers twice took 4 ms, which
        made a tiny base answer at less than half the speed of its own adapters.
        """
        if self._switched_to == (adapter,):
            return
        if adapter is None:
            peft.base_model.disable_adapter_layers()
        else:
            peft.base_model.enable_adapter_layers()
            peft.set_adapter(adapter)
        self._switched_to = (adapter,)

    def _decode(
        self, rows: Sequence[_Row], adapter: str | None, top_p: float, stop: Sequence[str]
    ) -> Iterator[None]:
        """Fills the rows, yielding after each token of the batch."""
        live = list(rows)
        longest = max(len(row.prompt) for row in live)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.full((len(live), longest), pad)
        mask = torch.zeros((len(live), longest), dtype=torch.long)  # rows x tokens so far
        for i, row in enumerate(live):
            ids[i, longest - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[i, longest - len(row.prompt) :] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._base.config)
        while live:
            with self._serving(adapter) as model:
                logits = model(
                    input_ids=ids,
                    attention_mask=None if bool(mask.all()) else mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]  # rows x vocab
                chosen = _sample(logits.float(), live, top_p)
            for row, token in zip(live, chosen.tolist(), strict=True):
                self._advance(row, token, stop)
            yield
            kept = [i for i, row in enumerate(live) if not row.finish_reason]
            if len(kept) < len(live):
                live = [live[i] for i in kept]
                index = torch.tensor(kept, dtype=torch.long)
                chosen, mask, positions = chosen[index], mask[index], positions[index]
                if live:
                    cache.batch_select_indices(index)
            ids = chosen[:, None]
            mask = torch.cat((mask, mask.new_ones((len(live), 1))), dim=1)
            positions = positions[:, -1:] + 1

    def _advance(self, row: _Row, token: int, stop: Sequence[str]) -> None:
        """Appends a token to a row and finishes it when it is at its end."""
        row.made.append(token)
        if token in self._ends:
            row.finish_reason = "stop"
        elif len(row.made) >= row.limit:
            row.finish_reason = "length"
        if row.finish_reason or stop:
            row.text = self._text(row)
        cuts = [found for found in (row.text.find(text) for text in stop) if found >= 0]
        if cuts:
            row.text, row.finish_reason = row.text[: min(cuts)], "stop"


def per_row(value: Any, n: int) -> list[Any]:
    """One value for each of `n` rows, from a single one (a string counts as one) or a sequence.

    Raises:
        BadInput: when the sequence has another length.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * n
    if len(value) != n:
        raise BadInput("values per row", len(value), f"{n}, one per prompt", "Give one, or all.")
    return list(value)


def _check(limits: Sequence[int], temperatures: Sequence[float], top_p: float) -> None:
    for limit in limits:
        if limit < 1:
            raise BadInput("max_new_tokens", limit, "at least 1", "Ask for a token or more.")
    for temperature in temperatures:
        if not 0 <= temperature <= 100:
            raise BadInput("temperature", temperature, "0 (greedy) to 100", "Usual are 0 to 2.")
    if not 0 < top_p <= 1:
        raise BadInput("top_p", top_p, "above 0, at most 1", "1 samples from all tokens.")


def _mixed(seed: int, row: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{row}".encode()).digest()[:7], "big")


def _row(ids: list[int], limit: int, temperature: float, seed: int) -> _Row:
    source = torch.Generator().manual_seed(seed)
    return _Row(ids, limit, temperature, torch.rand(limit, generator=source))


def _sample(logits: Tensor, rows: Sequence[_Row], top_p: float) -> Tensor:
    """One token per row by inverting the cumulative distribution; greedy where temperature is 0."""
    best = logits.argmax(-1)
    heats = torch.tensor([row.temperature for row in rows])
    if not bool(heats.any()):
        return best
    chances = torch.softmax(logits / heats.clamp(min=1e-4)[:, None], dim=-1)  # rows x vocab
    if top_p < 1:
        ordered, order = chances.sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p
        chances = chances.masked_fill(outside.gather(-1, order.argsort(-1)), 0)
    heights = chances.cumsum(-1)
    draws = torch.stack([row.draws[len(row.made)] for row in rows])
    levels = draws * heights[:, -1]
    drawn = torch.searchsorted(heights, levels[:, None], right=True).squeeze(1)
    return torch.where(heats > 0, drawn.clamp(max=logits.shape[-1] - 1), best)


def _certain(text: str, stop: Sequence[str]) -> str:
    """The part of an unfinished text that no later token can take back."""
    text = text.rstrip("\ufffd")
    held = 0
    for ending in stop:
        for size in range(1, len(ending)):
            if text.endswith(ending[:size]):
                held = max(held, size)
    return text[: len(text) - held]


def _finished(row: _Row) -> Generation:
    return Generation(row.text, len(row.prompt), len(row.made), row.finish_reason)
