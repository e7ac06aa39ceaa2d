"""The batch under way: rows join and leave between two tokens.

A step reads the prompts of those who join, which gives their first tokens, then makes a token for
everybody.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from serving.engine.answer import Answer, Spell
from serving.engine.lora import Adapted
from serving.engine.prefixes import Prefixes, joined
from serving.engine.sampling import choose
from serving.engine.window import Window
from serving.rows import Limits

PREFILL_TOKENS = 8192
"""Prompt tokens read in one forward pass, padding included."""


@dataclass(slots=True)
class Done:
    """What was done so far.

    Attributes:
        steps: forward passes that made a token for each row under way.
        prefills: forward passes that read prompts.
        tokens: made.
        prompt_tokens: of the rows that joined.
        cached_tokens: of those, found read already.
        largest_batch: most rows of a step.
        preempted: rows that had to wait again, since memory was full.
    """

    steps: int = 0
    prefills: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    largest_batch: int = 0
    preempted: int = 0


class Batch:
    """Answers under way, those that wait to join, and the model's memory of them."""

    def __init__(
        self, adapted: Adapted, ends: Collection[int], spell: Spell, limits: Limits
    ) -> None:
        """Nobody is under way.

        Args:
            adapted: the model.
            ends: tokens that end an answer.
            spell: token ids to text.
            limits: of rows and memory.
        """
        self.adapted, self.ends, self.spell, self.limits = adapted, ends, spell, limits
        self.waiting: deque[Answer] = deque()
        self.live: list[Answer] = []
        self.done = Done()
        self.prefixes = Prefixes(limits.prefix_mb * 2**20)
        self.window = Window(adapted.n_layers, limits.kv_mb * 2**20)
        self._try()

    def clear(self) -> None:
        """Forget everybody, also what is kept of prompts: after an error nothing is trusted."""
        self.waiting.clear()
        self.live.clear()
        self.prefixes.clear()
        self.window.clear()

    def step(self) -> None:
        """Make the next token of everybody, joining whoever can."""
        joiners = self._admit()
        if joiners:
            self._prefill(joiners)
        if self.live:
            self._decode()

    def remove(self, answer: Answer) -> None:
        """Take an answer out that nobody wants any more."""
        if answer in self.live:
            self._drop(self.live.index(answer))
        elif answer in self.waiting:
            self.waiting.remove(answer)

    @torch.inference_mode()
    def _try(self) -> None:
        """Compute one token, which shows what a token's keys and values take."""
        self.adapted.select([None])
        self.window.append([1])
        self._forward(torch.zeros((1, 1), dtype=torch.long), slice(0, 1), 0)
        self.window.drop(0)

    def _admit(self) -> list[Answer]:
        """Take the first of those who wait, as many as there is room for."""
        joiners: list[Answer] = []
        columns = self.window.n_seen
        while self.waiting:
            n = len(self.live) + len(joiners) + 1
            columns = max(columns, len(self.waiting[0].tokens))
            if n > self.limits.rows or not self.window.fits(n, columns + 1):
                break
            joiners.append(self.waiting.popleft())
        return joiners

    def _prefill(self, joiners: Sequence[Answer]) -> None:
        """Read prompts; equal ones of one adapter are read once."""
        alike: dict[tuple[int, tuple[int, ...]], list[Answer]] = {}
        for answer in joiners:
            alike.setdefault((_root(answer), tuple(answer.tokens)), []).append(answer)
        groups = sorted(alike.values(), key=lambda group: len(group[0].tokens))
        while groups:
            longest = len(groups[-1][0].tokens)
            n = min(len(groups), max(1, PREFILL_TOKENS // longest))
            self._read(groups[-n:])
            del groups[-n:]

    def _read(self, groups: Sequence[Sequence[Answer]]) -> None:
        """Read one prompt per group in one pass, and make the first token of each answer."""
        firsts = [group[0] for group in groups]
        n = len(self.live)
        self.window.append([len(answer.tokens) for answer in firsts])
        logits = self._read_rest(firsts, n)  # groups x vocab
        copies = [(i, answer) for i, group in enumerate(groups) for answer in group[1:]]
        if copies:
            rows = [*range(len(firsts)), *(i for i, _ in copies)]
            logits = logits[torch.tensor(rows, device=logits.device)]
            ends = self.window.end
            self.window.append([ends - self.window.starts[n + i] for i, _ in copies])
            for row, (i, answer) in enumerate(copies, start=n + len(firsts)):
                self.window.copy(n + i, row)
                answer.cached_tokens = len(answer.tokens)
        joiners = [*firsts, *(answer for _, answer in copies)]
        self.live += joiners
        self.done.prompt_tokens += sum(len(answer.tokens) for answer in joiners)
        self.done.cached_tokens += sum(answer.cached_tokens for answer in joiners)
        self._advance(n, logits)

    def _read_rest(self, answers: Sequence[Answer], row: int) -> Tensor:
        """Read what of the prompts is not kept, and keep it; return the last tokens' logits.

        As many tokens are read of each as of the one of which most must be: what would be padding
        reads again what is kept.
        """
        prompts = [answer.tokens for answer in answers]
        blocks = [
            self.prefixes.find(_root(answer), prompt, len(prompt) - 1)
            for answer, prompt in zip(answers, prompts, strict=True)
        ]
        kept = [sum(block.keys.shape[2] for block in found) for found in blocks]
        n = max(len(prompt) - k for prompt, k in zip(prompts, kept, strict=True))
        for i, (answer, prompt, found) in enumerate(zip(answers, prompts, blocks, strict=True)):
            answer.cached_tokens = max(0, len(prompt) - n)
            if answer.cached_tokens:
                self.window.write(row + i, *joined(found, answer.cached_tokens))
        ids = torch.tensor([[0] * (n - len(prompt)) + prompt[-n:] for prompt in prompts])
        rows, end = slice(row, row + len(answers)), self.window.end
        self.adapted.select([answer.lora for answer in answers])
        for start in range(0, n, PREFILL_TOKENS):
            part = ids[:, start : start + PREFILL_TOKENS]
            logits = self._forward(part, rows, end - n + start)
            self.done.prefills += 1
        for i, (answer, prompt) in enumerate(zip(answers, prompts, strict=True)):
            if self.prefixes.max_bytes:
                read = self.window.read(row + i, len(prompt))
                self.prefixes.keep(_root(answer), prompt, *read)
        return logits

    def _decode(self) -> None:
        """Make one token for each row under way."""
        while not self.window.fits(len(self.live), self.window.n_seen + 1):
            self.waiting.appendleft(self._drop(len(self.live) - 1))
            self.done.preempted += 1
        self.window.widen()
        self.done.steps += 1
        self.done.largest_batch = max(self.done.largest_batch, len(self.live))
        self.adapted.select([answer.lora for answer in self.live])
        ids = torch.tensor([[answer.made[-1]] for answer in self.live])
        logits = self._forward(ids, slice(0, len(self.live)), self.window.end)
        self.window.end += 1
        self._advance(0, logits)

    def _forward(self, ids: Tensor, rows: slice, first: int) -> Tensor:
        """Compute columns from `first` on of some rows; return the last column's logits."""
        positions, mask = self.window.turn_to(rows, first, first + ids.shape[1])
        device = self.adapted.device
        output = self.adapted.model(
            input_ids=ids.to(device),
            attention_mask=None if mask is None else mask.to(device),
            position_ids=positions.to(device),
            past_key_values=self.window,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]  # rows x vocab
        return logits.float()

    def _advance(self, first: int, logits: Tensor) -> None:
        """Append the chosen token to each row from `first` on; who is at the end leaves."""
        answers = self.live[first:]
        for answer, token in zip(answers, choose(logits, answers).tolist(), strict=True):
            answer.advance(token, self.ends, self.spell)
        self.done.tokens += len(answers)
        for row in reversed(range(first, len(self.live))):
            if self.live[row].finish_reason:
                self._drop(row)

    def _drop(self, row: int) -> Answer:
        """Take a row out; the last one takes its place."""
        answer = self.live[row]
        self.window.drop(row)
        last = self.live.pop()
        if row < len(self.live):
            self.live[row] = last
        return answer


def _root(answer: Answer) -> int:
    return 0 if answer.lora is None else answer.lora.number
