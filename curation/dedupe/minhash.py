"""MinHash signatures of many texts at once, in numpy: words from bytes, shingles, bands.

The values are stored in the database, so nothing here may ever change: no library's hash is used,
the constants are made by integer arithmetic below, and a test holds golden vectors. A change needs
a new signature version in `recipe.RULE_VERSIONS`.

Broder, "On the resemblance and containment of documents" (1997); the permutations are affine maps
modulo 2**32 of a murmur-finalised hash, as in datasketch 2.0's `affine32` (other constants).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

U64: TypeAlias = NDArray[np.uint64]
U32: TypeAlias = NDArray[np.uint32]
I64: TypeAlias = NDArray[np.int64]

_MASK: Final = (1 << 64) - 1
_BASE: Final = 0x9E3779B97F4A7C15
_BYTES_AT_ONCE: Final = 1 << 20
_SHINGLES_AT_ONCE: Final = 1 << 15
"""About what stays in a core's cache while 128 permutations pass over it."""

_IS_WORD: Final = np.zeros(256, dtype=bool)
_IS_WORD[
    [*b"0123456789abcdefghijklmnopqrstuvwxyz_ABCDEFGHIJKLMNOPQRSTUVWXYZ", *range(128, 256)]
] = True


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths in one array: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: U64
    offsets: I64

    def row(self, index: int) -> U64:
        """Return one row."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: I64) -> "Ragged":
        """Return the given rows, in that order, repeats allowed."""
        counts = self.lengths[rows]
        return Ragged(self.values[_ramps(self.offsets[rows], counts)], _offsets(counts))

    @property
    def lengths(self) -> I64:
        """Length of each row."""
        return np.diff(self.offsets)


def word_hashes(texts: Sequence[str]) -> Ragged:
    """Return the 64-bit hashes of each text's words, in order.

    A word is a run of ASCII letters, digits, underscores and non-ASCII characters. A text without
    words gives an empty row.
    """
    hashes, lengths = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for block in _blocks([text.encode("utf-8", "surrogatepass") for text in texts]):
        block_hashes, block_lengths = _hash_block(block)
        hashes.append(block_hashes)
        lengths.append(block_lengths)
    return Ragged(np.concatenate(hashes), _offsets(np.concatenate(lengths)))


def shingle_hashes(words: Ragged, sizes: I64) -> Ragged:
    """Return the hashes of each row's runs of `sizes[row]` consecutive words.

    A row shorter than its size gives one shingle of all its words; an empty row none.
    """
    lengths = words.lengths
    used = np.minimum(np.maximum(sizes, 1), np.maximum(lengths, 1))
    counts = np.where(lengths > 0, lengths - used + 1, 0)
    offsets = _offsets(counts)
    values = np.empty(offsets[-1], dtype=np.uint64)
    for size in np.unique(used[lengths > 0]):
        rows = np.flatnonzero((used == size) & (lengths > 0))
        first_words = _ramps(words.offsets[rows], counts[rows])
        combined = np.zeros(len(first_words), dtype=np.uint64)
        for step in range(int(size)):
            combined = combined * np.uint64(_BASE) + words.values[first_words + step]
        values[_ramps(offsets[rows], counts[rows])] = _mixed(combined)
    return Ragged(values, offsets)


def signatures(shingles: Ragged, num_perm: int) -> U32:
    """Return the MinHash signatures, one row of `num_perm` minima per row of shingles.

    A row without shingles gets the largest value everywhere; do not index it.
    """
    multipliers, increments = permutations(num_perm)
    n_rows = len(shingles.lengths)
    found = np.full((n_rows, num_perm), np.iinfo(np.uint32).max, dtype=np.uint32)
    rows = np.flatnonzero(shingles.lengths > 0)
    base = _murmur_finalized((shingles.values & np.uint64(0xFFFFFFFF)).astype(np.uint32))
    start = 0
    while start < len(rows):
        first = shingles.offsets[rows[start]]
        stop = int(
            np.searchsorted(shingles.offsets[rows + 1], first + _SHINGLES_AT_ONCE, side="right")
        )
        stop = max(stop, start + 1)
        block = rows[start:stop]
        hashes = base[first : shingles.offsets[block[-1] + 1]]
        starts = shingles.offsets[block] - first
        for index in range(num_perm):
            permuted = hashes * multipliers[index] + increments[index]
            found[block, index] = np.minimum.reduceat(permuted, starts)
        start = stop
    return found


def band_keys(found: U32, bands: int, rows: int, salts: U64) -> I64:
    """Return the bucket keys of each signature's bands: signed 64-bit, shape (n, bands).

    59 bits of hash over the salt of the row (role, variant, …) and the band's values, and the
    band's number in the low 5 bits.
    """
    grouped = found[:, : bands * rows].reshape(len(found), bands, rows).astype(np.uint64)
    keys = np.broadcast_to(salts[:, None], (len(found), bands)).astype(np.uint64)
    for row in range(rows):
        keys = _mixed(keys * np.uint64(_BASE) + grouped[:, :, row])
    numbered = (keys & np.uint64(_MASK - 0x1F)) | np.arange(bands, dtype=np.uint64)[None, :]
    return numbered.view(np.int64)


def salt_of(*words: str) -> np.uint64:
    """Return a salt for `band_keys`, so that texts of different worlds never meet in a bucket."""
    hashes = word_hashes(["_".join(word.encode().hex() for word in words)])
    return np.uint64(hashes.values[0])


@lru_cache(maxsize=8)
def permutations(num_perm: int) -> tuple[U32, U32]:
    """Return the odd multipliers and the increments of the affine maps modulo 2**32."""
    drawn, state = [], 0
    for _ in range(2 * num_perm):
        state = (state + _BASE) & _MASK
        drawn.append(_split_mix(state) >> 32)
    pairs = np.array(drawn, dtype=np.uint32).reshape(num_perm, 2)
    return pairs[:, 0] | np.uint32(1), pairs[:, 1]


def _split_mix(state: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014) on a plain integer."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def _mixed(values: U64) -> U64:
    """SplitMix64's finaliser on an array; arithmetic wraps modulo 2**64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _murmur_finalized(values: U32) -> U32:
    """MurmurHash3's 32-bit finaliser, so that affine maps see no structure."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))


def _blocks(encoded: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the texts in groups of about `_BYTES_AT_ONCE`."""
    block: list[bytes] = []
    size = 0
    for raw in encoded:
        block.append(raw)
        size += len(raw)
        if size >= _BYTES_AT_ONCE:
            yield block
            block, size = [], 0
    if block:
        yield block


def _hash_block(block: list[bytes]) -> tuple[U64, I64]:
    """Return the word hashes of some texts, and how many words each text has.

    A hash is a polynomial of the word's bytes, summed over the word and mixed.
    """
    text_offsets = _offsets(np.array([len(raw) + 1 for raw in block], dtype=np.int64))
    raw_bytes = np.frombuffer(b"\n".join(block) + b"\n", dtype=np.uint8)
    is_word = _IS_WORD[raw_bytes]
    starts = np.flatnonzero(is_word & ~np.concatenate(([False], is_word[:-1])))
    lengths = np.diff(np.searchsorted(starts, text_offsets)).astype(np.int64)
    if not len(starts):
        return np.empty(0, dtype=np.uint64), lengths
    first = starts[0]
    spans = np.diff(np.append(starts, len(raw_bytes)))
    position = np.arange(len(raw_bytes) - first) - np.repeat(starts - first, spans)
    weights = _powers(int(spans.max()))[position]
    weighted = np.where(is_word, raw_bytes, 0)[first:] * weights
    return _mixed(np.add.reduceat(weighted, starts - first)), lengths


def _powers(n: int) -> U64:
    factors = np.full(n, _BASE, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _ramps(starts: I64, counts: I64) -> I64:
    """Return start, start + 1, … (count of them) of each pair, one after the other."""
    offsets = _offsets(counts)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, counts)


def _offsets(counts: I64) -> I64:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))
