"""Code recognised under other names: token runs with every chosen identifier made alike.

Renaming variables and functions, reformatting, and new comments leave the stream of keywords,
operators, literals, built-in names and attributes as it was. A reference solution is repeated when
almost all of its runs of ten such tokens stand in a text. Solutions of fewer than `LEAST_RUNS`
runs are no evidence: there is one way to write most two-line functions.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import numpy as np

from curation.decontaminate.passages import ProtectedItem
from curation.decontaminate.streams import Postings, runs
from curation.dedupe.minhash import U64

SIZE: Final = 10
"""Tokens of a run."""
LEAST_RUNS: Final = 40
"""Distinct runs of a solution that can be searched for."""
LEAST_SHARE: Final = 0.8
"""Share of a solution's runs that a text must hold."""

_MOST_CHARS: Final = 512
"""Of a token: bounds what the cache of their hashes holds."""
_TOKEN = re.compile(
    r'"{3}.*?"{3}|\'{3}.*?\'{3}'  # a docstring says nothing of the code
    r"|#[^\n]*|//[^\n]*"
    r'|"[^"\n]{0,500}"|\'[^\'\n]{0,500}\''
    r"|\.?[A-Za-z_\x80-\U0010ffff][\w]*|\d[\w.]*|[^\s\w]",
    re.DOTALL,
)
_SKIPPED = ('"""', "'''", "#", "//")
_KEPT: Final = frozenset(
    "and as assert async await break case class continue def del do elif else except finally fn "
    "for from func function if impl import in is lambda let match mut new not or pass raise return "
    "static struct switch try var void while with yield const enum public private None True False "
    "null true false self this abs all any bool bytes chr dict divmod enumerate filter float int "
    "isinstance len list map max min open ord pow print range reversed round set sorted str sum "
    "tuple type zip super Exception ValueError KeyError TypeError Some Ok Err Vec String".split()
)


class Solutions:
    """Finds reference solutions in the code of a text."""

    def __init__(self, items: Sequence[ProtectedItem]) -> None:
        keys, owners = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
        self._n_runs = np.ones(len(items), dtype=np.int64)
        for index, item in enumerate(items):
            found = np.unique(token_runs(item.solution))
            if len(found) >= LEAST_RUNS:
                keys.append(found)
                owners.append(np.full(len(found), index, dtype=np.int64))
                self._n_runs[index] = len(found)
        owned = np.concatenate(owners)
        self._postings = Postings(np.concatenate(keys), owned, np.zeros_like(owned))

    def found_in(self, text: str) -> dict[int, float]:
        """Return item index -> share of its solution's runs (0-1) that the text repeats."""
        if not len(self._postings.owners):
            return {}
        _, found = self._postings.find(np.unique(token_runs(text)))
        counts = np.bincount(self._postings.owners[found], minlength=len(self._n_runs))
        shares = counts / self._n_runs
        return {
            index: float(shares[index]) for index in np.flatnonzero(shares >= LEAST_SHARE).tolist()
        }


def token_runs(text: str) -> U64:
    """Return the hashes of the runs of `SIZE` normalised tokens of a text; none if it is short."""
    tokens = (token[:_MOST_CHARS] for token in _TOKEN.findall(text))
    hashes = [found for token in tokens if (found := _token_hash(token))]
    return runs(np.array(hashes, dtype=np.uint64), SIZE)


def normalised(token: str) -> str:
    """Return a token of code as it is compared: `v` for a chosen name, nothing for a comment."""
    if token[0].isalpha() or token[0] == "_":
        return token if token in _KEPT else "v"
    return "" if token.startswith(_SKIPPED) else token.replace("'", '"')


@lru_cache(maxsize=1 << 15)
def _token_hash(token: str) -> int:
    """Return a 64-bit hash of the normalised token; 0 for one that is left out."""
    kept = normalised(token)
    if not kept:
        return 0
    return int.from_bytes(blake2b(kept.encode("utf-8", "replace"), digest_size=8).digest())
