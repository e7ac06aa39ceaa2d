"""An answer under way: the tokens made so far, and their text as far as it is certain."""

from collections.abc import Callable, Collection

import torch

from serving.engine.lora import Lora
from serving.rows import Generation, Row

DRAWS_AT_ONCE = 64

Spell = Callable[[list[int]], str]
"""Token ids to text."""


class Answer:
    """One row on its way through the decode loop."""

    __slots__ = (
        "_draws",
        "_read",
        "_settled",
        "_source",
        "cached_tokens",
        "finish_reason",
        "lora",
        "made",
        "row",
        "text",
        "watched",
    )

    def __init__(self, row: Row, lora: Lora | None, watched: bool = False) -> None:
        """Nothing is made yet.

        Args:
            row: what is wanted.
            lora: its adapter's weights.
            watched: whether the text is wanted token by token.
        """
        self.row, self.lora, self.watched = row, lora, watched
        self.made: list[int] = []
        self.text = ""
        self.finish_reason = ""
        self.cached_tokens = 0
        self._source = torch.Generator().manual_seed(row.seed)
        self._draws: list[float] = []
        self._settled = self._read = 0  # tokens

    @property
    def tokens(self) -> list[int]:
        """The prompt and what was made after it."""
        return self.row.prompt + self.made

    @property
    def draw(self) -> float:
        """The number in 0-1 that chooses the next token: the seed's own, whatever the batch."""
        while len(self._draws) <= len(self.made):
            self._draws += torch.rand(DRAWS_AT_ONCE, generator=self._source).tolist()
        return self._draws[len(self.made)]

    @property
    def certain_text(self) -> str:
        """The part of the text that no later token can take back."""
        if self.finish_reason:
            return self.text
        held = 0
        for ending in self.row.stop:
            for size in range(1, len(ending)):
                if self.text.endswith(ending[:size]):
                    held = max(held, size)
        return self.text[: len(self.text) - held]

    @property
    def generation(self) -> Generation:
        """The finished answer."""
        n = len(self.row.prompt)
        cached = min(self.cached_tokens, n)
        return Generation(self.text, n, len(self.made), self.finish_reason, cached)

    def advance(self, token: int, ends: Collection[int], spell: Spell) -> None:
        """Append a token, and finish the answer when it is at its end."""
        self.made.append(token)
        if token in ends:
            self.finish_reason = "stop"
        elif len(self.made) >= self.row.max_new_tokens:
            self.finish_reason = "length"
        if self.finish_reason:
            self.text = spell(self.made[:-1] if token in ends else self.made)
            self._cut(0)
        elif self.watched or self.row.stop:
            known = len(self.text)
            self._read_on(spell)
            self._cut(known)

    def _read_on(self, spell: Spell) -> None:
        """Append what the new tokens spell, once no character is cut in the middle.

        Tokens are spelled together with some before them, since a tokenizer may join or part them.
        """
        before, now = (
            spell(self.made[self._settled : end]) for end in (self._read, len(self.made))
        )
        if len(now) > len(before) and not now.endswith("\ufffd"):
            self.text += now[len(before) :]
            self._settled, self._read = self._read, len(self.made)

    def _cut(self, known: int) -> None:
        """Cut the text before the first stop string; none ends in its first `known` characters."""
        found = [
            (at, stop)
            for stop in self.row.stop
            if (at := self.text.find(stop, max(0, known - len(stop) + 1))) >= 0
        ]
        if found:
            self.text, self.finish_reason = self.text[: min(found)[0]], "stop"
