"""Keys and values of prompts, kept for those that begin alike: a shared system prompt is read once.

A prompt is cut into blocks of a few tokens; a block is found by the block before it and its own
tokens, so that equal beginnings share their blocks (vLLM's prefix caching, without its hashes: a
key here is the tokens themselves). The blocks not used for longest go first.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class _Block:
    number: int
    keys: Tensor  # layers x heads x BLOCK_TOKENS x dim
    values: Tensor

    @property
    def n_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.keys, self.values))


class Prefixes:
    """The blocks, with a bound on their bytes."""

    def __init__(self, max_bytes: int) -> None:
        """Nothing is kept yet; with 0 bytes nothing ever is."""
        self.max_bytes, self.n_bytes = max_bytes, 0
        self._blocks: OrderedDict[tuple[int, tuple[int, ...]], _Block] = OrderedDict()
        # Blocks count down from -1, adapters up from 0 (the base): roots and blocks never meet.
        self._numbers = count(-1, -1)

    def __len__(self) -> int:
        return len(self._blocks)

    def clear(self) -> None:
        """Keep nothing of what is there."""
        self._blocks.clear()
        self.n_bytes = 0

    def find(self, root: int, tokens: Sequence[int], most: int) -> list[_Block]:
        """Return the blocks that `tokens` begins with, of at most `most` tokens together.

        Args:
            root: whose keys and values: 0 for the base, or the number of an adapter.
            tokens: of the prompt.
            most: tokens that may be taken from here.
        """
        found: list[_Block] = []
        keys = []
        parent = root
        for start in range(0, most - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            key = (parent, tuple(tokens[start : start + BLOCK_TOKENS]))
            block = self._blocks.get(key)
            if block is None:
                break
            found.append(block)
            keys.append(key)
            parent = block.number
        for key in reversed(keys):  # the first is then used last: no block outlives those before
            self._blocks.move_to_end(key)
        return found

    def keep(self, root: int, tokens: Sequence[int], keys: Tensor, values: Tensor) -> None:
        """Keep the whole blocks of a prompt.

        Args:
            root: as in `find`.
            tokens: of the prompt.
            keys: layers x heads x tokens x dim; copied.
            values: likewise.
        """
        if not self.max_bytes:
            return
        parent = root
        path = []
        for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            key = (parent, tuple(tokens[start : start + BLOCK_TOKENS]))
            block = self._blocks.get(key)
            if block is None:
                span = slice(start, start + BLOCK_TOKENS)
                block = _Block(
                    next(self._numbers), keys[:, :, span].clone(), values[:, :, span].clone()
                )
                self._blocks[key] = block
                self.n_bytes += block.n_bytes
            path.append(key)
            parent = block.number
        for key in reversed(path):
            self._blocks.move_to_end(key)
        while self.n_bytes > self.max_bytes:
            _, oldest = self._blocks.popitem(last=False)
            self.n_bytes -= oldest.n_bytes


def joined(blocks: Sequence[_Block], n_tokens: int) -> tuple[Tensor, Tensor]:
    """Return the keys and the values of the first tokens of one or more blocks."""
    keys = torch.cat([block.keys for block in blocks], dim=2)[:, :, :n_tokens]
    values = torch.cat([block.values for block in blocks], dim=2)[:, :, :n_tokens]
    return keys, values
