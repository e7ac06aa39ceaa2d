"""MinHash signatures of many texts at once, in numpy: words from bytes, shingles, bands.

The values are stored in the database, so nothing here may ever change: no library's hash is used,
the constants are made by integer arithmetic below, and a test holds golden vectors. A change needs
a new signature version in `recipe.RULE_VERSIONS`.

Broder, "On the resemblance and containment of documents" (1997); the permutations are affine maps
modulo 2**32 of a well-mixed hash, as in datasketch 2.0's `affine32` (other hash and constants).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation.memory import keep_freed_memory

U64: TypeAlias = NDArray[np.uint64]
U32: TypeAlias = NDArray[np.uint32]
I64: TypeAlias = NDArray[np.int64]

_MASK: Final = (1 << 64) - 1
_BASE: Final = 0x9E3779B97F4A7C15
_CHUNK_BASE: Final = 0xD1342543DE82EF95
"""Sets the chunks of a long word apart from the words of a shingle."""
_BYTES_AT_ONCE: Final = 1 << 18
_SHINGLES_AT_ONCE: Final = 1 << 16
"""About what stays in a core's cache while 128 permutations pass over it."""
_CHUNK: Final = 8
_FIRST_BYTES: Final = np.array([(1 << 8 * n) - 1 for n in range(_CHUNK + 1)], dtype=np.uint64)
"""Masks that keep the first n bytes of a little-endian chunk."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths in one array: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: U64
    offsets: I64

    def row(self, index: int) -> U64:
        """Return one row."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def rows(self) -> list[U64]:
        """Return all rows."""
        return [self.values[first:last] for first, last in pairwise(self.offsets.tolist())]

    def take(self, rows: I64) -> "Ragged":
        """Return the given rows, in that order, repeats allowed."""
        counts = self.lengths[rows]
        return Ragged(self.values[_ramps(self.offsets[rows], counts)], _offsets(counts))

    @property
    def lengths(self) -> I64:
        """Length of each row."""
        return np.diff(self.offsets)


def word_hashes(texts: Sequence[str]) -> Ragged:
    """Return the 64-bit hashes of each text's words, in order, see `hashed_words`."""
    return hashed_words([text.encode("utf-8", "surrogatepass") for text in texts])


def hashed_words(texts: Sequence[bytes]) -> Ragged:
    """Return the 64-bit hashes of each UTF-8 text's words, in order.

    A word is a run of ASCII letters, digits, underscores and non-ASCII characters. A text without
    words gives an empty row.
    """
    keep_freed_memory()
    hashes, lengths = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for block in _blocks(texts):
        block_hashes, block_lengths = _hash_block(block)
        hashes.append(block_hashes)
        lengths.append(block_lengths)
    return Ragged(np.concatenate(hashes), _offsets(np.concatenate(lengths)))


def shingle_hashes(words: Ragged, sizes: I64) -> Ragged:
    """Return the hashes of each row's runs of `sizes[row]` consecutive words.

    A row shorter than its size gives one shingle of all its words; an empty row none.
    """
    lengths = words.lengths
    used = np.minimum(np.maximum(sizes, 1), lengths)
    counts = np.where(lengths > 0, lengths - used + 1, 0)
    offsets = _offsets(counts)
    values = np.empty(offsets[-1], dtype=np.uint64)
    combined = words.values
    for size in range(1, int(used.max(initial=0)) + 1):
        if size > 1:  # every run of the whole array, also those across rows, which no row asks for
            combined = combined[:-1] * np.uint64(_BASE) + words.values[size - 1 :]
        rows = np.flatnonzero(used == size)
        if len(rows):
            runs = _ramps(words.offsets[rows], counts[rows])
            if len(runs) == len(values):  # every row has this size
                values = combined[runs]
            else:
                values[_ramps(offsets[rows], counts[rows])] = combined[runs]
    return Ragged(_mixed(values), offsets)


def run_hashes(words: U64, size: int) -> U64:
    """Return what `shingle_hashes` does for the words of one text."""
    n_runs = max(len(words) - size + 1, min(len(words), 1))
    combined = words[:n_runs]
    for step in range(1, min(size, len(words))):
        combined = combined * np.uint64(_BASE) + words[step : step + n_runs]
    return _mixed(combined)


def signatures(shingles: Ragged, num_perm: int) -> U32:
    """Return the MinHash signatures, one row of `num_perm` minima per row of shingles.

    A row without shingles gets the largest value everywhere; do not index it.
    """
    multipliers, increments = permutations(num_perm)
    found = np.full((len(shingles.lengths), num_perm), np.iinfo(np.uint32).max, dtype=np.uint32)
    base = shingles.values.astype(np.uint32)
    for rows, start, stop in _row_blocks(shingles):
        hashes = base[start:stop]
        permuted = np.empty_like(hashes)
        minima = np.empty((num_perm, len(rows)), dtype=np.uint32)
        starts = shingles.offsets[rows] - start
        for index in range(num_perm):
            np.multiply(hashes, multipliers[index], out=permuted)
            np.add(permuted, increments[index], out=permuted)
            np.minimum.reduceat(permuted, starts, out=minima[index])
        found[rows] = minima.T
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
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _blocks(encoded: Sequence[bytes]) -> Iterator[list[bytes]]:
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


def _row_blocks(shingles: Ragged) -> Iterator[tuple[I64, int, int]]:
    """Yield rows that have shingles, about `_SHINGLES_AT_ONCE` of them, and where those stand."""
    rows = np.flatnonzero(shingles.lengths > 0)
    ends = shingles.offsets[rows + 1]
    first = 0
    while first < len(rows):
        start = int(shingles.offsets[rows[first]])
        last = int(np.searchsorted(ends, start + _SHINGLES_AT_ONCE, side="right"))
        last = max(last, first + 1)
        yield rows[first:last], start, int(ends[last - 1])
        first = last


def _hash_block(block: list[bytes]) -> tuple[U64, I64]:
    """Return the word hashes of some texts, and how many words each text has."""
    text_starts = 1 + _offsets(np.array([len(raw) + 1 for raw in block], dtype=np.int64))
    data = b"\n".join((b"", *block, b""))
    data += bytes(_CHUNK)
    is_word = _are_words(np.frombuffer(data, dtype=np.uint8))
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    lengths = np.diff(np.searchsorted(starts, text_starts)).astype(np.int64)
    chunks = np.ndarray((len(data) - _CHUNK,), "<u8", data, strides=(1,))  # one at every byte
    return _mixed(_word_values(chunks, starts, ends - starts)), lengths


def _are_words(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    is_digit = (codes - np.uint8(48)) < 10
    is_letter = ((codes | np.uint8(32)) - np.uint8(97)) < 26
    found: NDArray[np.bool_] = is_digit | is_letter | (codes == 95) | (codes >= 128)
    return found


def _word_values(chunks: U64, starts: I64, lengths: I64) -> U64:
    """Return a number per word: its first eight bytes, plus a polynomial of the eights after."""
    values = _bytes_at(chunks, starts, lengths)
    long = np.flatnonzero(lengths > _CHUNK)
    if len(long):
        counts = (lengths[long] - 1) // _CHUNK
        offsets = _offsets(counts)
        steps = _ramps(np.ones(len(long), dtype=np.int64), counts)
        places = np.repeat(starts[long], counts) + _CHUNK * steps
        left = np.repeat(lengths[long], counts) - _CHUNK * steps
        rest = _bytes_at(chunks, places, left) * _powers(int(counts.max()) + 1)[steps]
        values[long] += np.add.reduceat(rest, offsets[:-1])
    return values


def _bytes_at(chunks: U64, places: I64, lengths: I64) -> U64:
    """Return the up to eight bytes at each place, as little-endian numbers."""
    found: U64 = chunks[places]
    found &= _FIRST_BYTES.take(lengths, mode="clip")
    return found


def _powers(n: int) -> U64:
    factors = np.full(n, _CHUNK_BASE, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _ramps(starts: I64, counts: I64) -> I64:
    """Return start, start + 1, … (count of them) of each pair, one after the other."""
    offsets = _offsets(counts)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, counts)


def _offsets(counts: I64) -> I64:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))
