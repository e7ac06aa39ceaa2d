"""Keys and values of the rows under way, in one block of memory that rows join and leave.

All rows end in the same column, where the next token of each is written; a row begins in the
column that its length asks for. So a step is one rectangular forward pass, and a row joins or
leaves without the others being copied.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

LEAST_ROWS, LEAST_COLUMNS = 8, 64


class Window(Cache):  # type: ignore[misc]  # transformers is untyped here
    """The cache that a model's attention writes to and reads from.

    Attributes:
        starts: the first column of each row.
        end: the column that the next token goes to.
    """

    def __init__(self, n_layers: int, max_bytes: int) -> None:
        """Holds nothing yet; memory is taken when the first row's keys are known.

        Args:
            n_layers: of attention.
            max_bytes: of keys and values; one row is held however long it is.
        """
        super().__init__(layers=[])
        self.starts: list[int] = []
        self.end = 0
        self._n_layers, self._max_bytes = n_layers, max_bytes
        self._keys: Tensor | None = None  # layers x rows x heads x columns x dim
        self._values: Tensor | None = None
        self._n_rows = self._n_columns = 0
        self._cell_bytes = 0
        self._rows, self._seen, self._written = slice(0), slice(0), slice(0)

    @property
    def n_bytes(self) -> int:
        """Memory taken."""
        return self._n_rows * self._n_columns * self._cell_bytes

    @property
    def n_seen(self) -> int:
        """Columns that some row still needs."""
        return self.end - min(self.starts, default=self.end)

    def fits(self, n_rows: int, n_columns: int) -> bool:
        """Say whether so many rows of such a length may be held."""
        cells = _power(n_rows, LEAST_ROWS) * _power(n_columns, LEAST_COLUMNS)
        return n_rows <= 1 or cells * self._cell_bytes <= self._max_bytes

    def clear(self) -> None:
        """Hold nothing, and no memory."""
        self.starts, self.end = [], 0
        self._keys = self._values = None
        self._n_rows = self._n_columns = 0

    def append(self, lengths: Sequence[int]) -> None:
        """Add rows of which so many tokens are before the end, to be written yet."""
        n, longest = len(self.starts), max(lengths)
        if not n:
            self.end = 0
        shift = max(0, longest - self.end)
        self._reserve(n + len(lengths), self.end + shift + 1, shift)
        self.starts += [self.end - length for length in lengths]

    def widen(self) -> None:
        """Make sure of a column for one token more."""
        self._reserve(len(self.starts), self.end + 1, 0)

    def drop(self, row: int) -> None:
        """Take a row out; the last one takes its place."""
        last = len(self.starts) - 1
        if row < last:
            self.copy(last, row)
        self.starts.pop()

    def copy(self, source: int, target: int) -> None:
        """Let the row `target` be as `source` is."""
        self.starts[target] = self.starts[source]
        span = slice(self.starts[source], self.end)
        for held in (self._keys, self._values):
            if held is not None:
                held[:, target, :, span] = held[:, source, :, span]

    def read(self, row: int, n_tokens: int) -> tuple[Tensor, Tensor]:
        """Return keys and values (layers x heads x tokens x dim) of a row's first tokens."""
        assert self._keys is not None
        assert self._values is not None
        span = slice(self.starts[row], self.starts[row] + n_tokens)
        return self._keys[:, row, :, span], self._values[:, row, :, span]

    def write(self, row: int, keys: Tensor, values: Tensor) -> None:
        """Set keys and values of a row's first tokens, as `read` gives them."""
        assert self._keys is not None
        assert self._values is not None
        span = slice(self.starts[row], self.starts[row] + keys.shape[2])
        self._keys[:, row, :, span] = keys
        self._values[:, row, :, span] = values

    def turn_to(self, rows: slice, first: int, last: int) -> tuple[Tensor, Tensor | None]:
        """Say which rows and columns the next forward pass computes.

        Returns:
            Positions of the tokens (rows x tokens), and which columns a row may look at (rows x
            columns up to `last`), None where it is all of them.
        """
        starts = self.starts[rows]
        least = min(starts)
        self._rows, self._seen = rows, slice(least, last)
        self._written = slice(first, last)
        begins = torch.tensor(starts)[:, None]
        positions = (torch.arange(first, last)[None] - begins).clamp(min=0)
        if max(starts) == least:
            return positions, None
        return positions, torch.arange(least, last)[None] >= begins

    # What transformers asks of a cache

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values; return those that its attention looks at."""
        if self._keys is None or self._values is None:
            self._allocate(key_states, value_states)
        assert self._keys is not None
        assert self._values is not None
        keys, values = self._keys[layer_idx, self._rows], self._values[layer_idx, self._rows]
        keys[:, :, self._written] = key_states
        values[:, :, self._written] = value_states
        return keys[:, :, self._seen], values[:, :, self._seen]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many columns stand before those that are computed now."""
        n_before: int = self._written.start - self._seen.start
        return n_before

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the same, as masks are made with it."""
        return self.get_seq_length()

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return how many columns are looked at, and where they begin."""
        return self._seen.stop - self._seen.start, 0

    # Memory

    def _allocate(self, key: Tensor, value: Tensor) -> None:
        self._cell_bytes = self._n_layers * sum(
            t.shape[1] * t.shape[3] * t.element_size() for t in (key, value)
        )
        self._keys, self._values = (self._empty(state) for state in (key, value))

    def _empty(self, like: Tensor) -> Tensor:
        """Return memory for rows x columns; zeros, since a masked NaN would still be seen."""
        shape = (self._n_layers, self._n_rows, like.shape[-3], self._n_columns, like.shape[-1])
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _reserve(self, n_rows: int, n_columns: int, shift: int) -> None:
        """Have room for rows and columns, what is there moved `shift` columns to the right.

        Columns that no row needs any more are given up before memory is taken.
        """
        least = min(self.starts, default=0)
        if n_columns > self._n_columns and (
            least >= self._n_columns // 4 or not self.fits(n_rows, n_columns)
        ):
            shift, n_columns = shift - least, n_columns - least
        if n_rows > self._n_rows or n_columns > self._n_columns:
            self._grow(n_rows, n_columns, shift)
        elif shift:
            self._move(shift)
        self.end += shift
        self.starts = [start + shift for start in self.starts]

    def _grow(self, n_rows: int, n_columns: int, shift: int) -> None:
        rows, columns = _power(n_rows, LEAST_ROWS), _power(n_columns, LEAST_COLUMNS)
        if self.starts and self.fits(max(rows, self._n_rows), max(columns, self._n_columns)):
            rows, columns = max(rows, self._n_rows), max(columns, self._n_columns)
        self._n_rows, self._n_columns = rows, columns
        if self._keys is None or self._values is None:
            return
        held = self._keys, self._values
        self._keys, self._values = (self._empty(old) for old in held)
        if self.starts:
            least, n = min(self.starts), len(self.starts)
            for new, old in zip((self._keys, self._values), held, strict=True):
                new[:, :n, :, least + shift : self.end + shift] = old[:, :n, :, least : self.end]

    def _move(self, shift: int) -> None:
        if not self.starts:
            return
        least, n = min(self.starts), len(self.starts)
        for held in (self._keys, self._values):
            if held is not None:
                there = held[:, :n, :, least : self.end].clone()
                held[:, :n, :, least + shift : self.end + shift] = there


def _power(n: int, least: int) -> int:
    """Return the first power of two that is neither less than `n` nor than `least`."""
    return max(least, 1 << (n - 1).bit_length())
