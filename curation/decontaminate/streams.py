"""Texts as streams of word hashes, and the look-up of many hashes among the protected ones.

The hashes are those of the duplicate search (`curation.dedupe.minhash`), after each word was
replaced by the one that stands for its kind; so a batch of texts is read in a few numpy calls.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from curation.decontaminate.reading import CANONICAL, NEUTRAL, spaced
from curation.dedupe.minhash import I64, U64, Ragged, word_hashes

_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)


def canonical_stream(texts: Sequence[str]) -> Ragged:
    """Return the hashes of each text's canonical words."""
    words = word_hashes([spaced(text.lower()) for text in texts])
    if not len(words.values):
        return words
    place = np.minimum(np.searchsorted(_FROM, words.values), len(_FROM) - 1)
    values = np.where(_FROM[place] == words.values, _TO[place], words.values)
    return Ragged(values, words.offsets)


def hashes_of(words: Iterable[str]) -> U64:
    """Return the hashes of canonical words, each by itself."""
    return word_hashes([" ".join(words)]).values


def is_content(words: U64) -> np.typing.NDArray[np.bool_]:
    """Return which words carry meaning."""
    place = np.minimum(np.searchsorted(_NEUTRAL, words), len(_NEUTRAL) - 1)
    found: np.typing.NDArray[np.bool_] = _NEUTRAL[place] != words
    return found


def runs(words: U64, size: int) -> U64:
    """Return the hashes of all runs of `size` words, in order; none for a shorter text.

    A polynomial of the word hashes, which are well mixed; never stored.
    """
    n_runs = len(words) - size + 1
    if n_runs < 1:
        return np.empty(0, dtype=np.uint64)
    combined = words[:n_runs].copy()
    for step in range(1, size):
        combined *= _FACTOR
        combined += words[step : step + n_runs]
    return combined


class Postings:
    """Hash -> the places it was found at, each an (owner, position) pair."""

    def __init__(self, keys: U64, owners: I64, positions: I64) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self.owners, self.positions = owners[order], positions[order]

    def find(self, wanted: U64) -> tuple[I64, I64]:
        """Return (index into `wanted`, index into owners and positions) of every match."""
        starts = np.searchsorted(self._keys, wanted, side="left")
        counts = np.searchsorted(self._keys, wanted, side="right") - starts
        asked = np.repeat(np.arange(len(wanted)), counts)
        ends = np.cumsum(counts)
        found = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts - starts, counts)
        return asked, found


def _canonical_table() -> tuple[U64, U64]:
    pairs = sorted(
        (int(hashes_of([word])[0]), int(hashes_of([one])[0])) for word, one in CANONICAL.items()
    )
    table = np.array(pairs, dtype=np.uint64)
    return table[:, 0], table[:, 1]


_FROM, _TO = _canonical_table()
_NEUTRAL: Final = np.sort(hashes_of(sorted(NEUTRAL)))
