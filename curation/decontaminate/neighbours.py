"""Short and reworded tasks: near ones by hashed word pairs and by name, each then verified.

Below 26 words one changed word makes another task ("odd" for "even", 4 for 5), so a short
statement counts as repeated only when its content words all stand in the text, in order and with
nothing between. Where more was reworded, a second witness is asked for: a name of several words
that both define or call, or the same worked examples. No model is needed; what proposes is cheap
and generous, what decides is exact.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from curation.decontaminate.passages import Passage
from curation.decontaminate.reading import (
    WORD,
    content_of,
    is_decisive,
    is_specific,
    is_telling,
    name_key,
    name_parts,
    read,
    spaced,
    spellings,
    words_of,
)
from curation.decontaminate.streams import Postings, hashes_of, is_content, runs
from curation.dedupe.minhash import I64, U64

LEAST_WORDS: Final = 8
"""Words from which a statement repeated to the word is evidence by itself."""
LEAST_CONTENT: Final = 5
"""Content words from which it is where other words between them differ."""
LEAST_TELLING: Final = 2
"""Content words, of those that not any task may hold, that a statement needs for both."""
LEAST_NAMED: Final = 2
"""Content words from which it is evidence when the function's name agrees."""
LEAST_KEPT: Final = 3
LEAST_ALIKE: Final = 0.6
"""Number and share of its telling words that a reworded statement keeps, beside a witness."""
LEAST_EXAMPLES: Final = 2
LEAST_EXAMPLE_CHARS: Final = 12
MOST_WORDS: Final = 160
"""Longer statements are left to `ngrams`."""

_WINDOW: Final = 384
_STEP: Final = 192
"""Words of the pieces that a long text is looked at in, and from one to the next."""
_PROPOSED_FROM: Final = 0.4
"""Share of a statement's pairs of content words that a text must hold to be looked at."""
_CANDIDATES: Final = 20
_COMMON_PAIR: Final = 0.1
"""Share of the passages from which a pair of words proposes none of them, beyond twenty."""


@dataclass(frozen=True, slots=True)
class Alike:
    """A verified neighbour: which passage, whether word for word, and what share is kept."""

    passage: int
    is_whole: bool
    similarity: float


class Neighbours:
    """The short passages, by their pairs of content words and their specific names."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._wanted = [_Wanted(passage) for passage in passages]
        hashes = {
            index: hashes_of(passage.words)
            for index, passage in enumerate(passages)
            if passage.is_task and passage.words and len(passage.words) <= MOST_WORDS
        }
        pairs = {index: np.unique(runs(row[is_content(row)], 2)) for index, row in hashes.items()}
        self._pairs, self._n_pairs = _pair_postings(pairs, len(passages))
        self._names = _name_postings(passages)

    def found_in(self, text: str, stream: U64) -> list[Alike]:
        """Return the verified neighbours of a text, whose canonical word hashes are `stream`."""
        best: dict[int, Alike] = {}
        pieces = _Pieces(text)
        for start, stop, candidates in self._proposals(stream):
            said = _Said(text if stop - start == len(stream) else pieces.between(start, stop))
            for index in candidates:
                alike = _verified(index, self._wanted[index], said)
                if alike and (index not in best or alike.similarity > best[index].similarity):
                    best[index] = alike
        return list(best.values())

    def _proposals(self, stream: U64) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (first word, end, passages worth a look) of the pieces of a text."""
        content = np.flatnonzero(is_content(stream))
        asked, found = self._pairs.find(runs(stream[content], 2))
        named, names = self._names.find(stream)
        if not len(found) and not len(names):
            return
        places = content[asked]
        for start in range(0, max(1, len(stream) - _WINDOW + _STEP), _STEP):
            stop = min(start + _WINDOW, len(stream))
            first, last = np.searchsorted(places, (start, stop))
            called = names[(named >= start) & (named < stop)]
            candidates = self._worth_a_look(found[first:last], called)
            if candidates:
                yield start, stop, candidates

    def _worth_a_look(self, pairs: I64, names: I64) -> list[int]:
        counts = np.bincount(self._pairs.owners[np.unique(pairs)], minlength=len(self._wanted))
        shares = counts / self._n_pairs
        near = np.flatnonzero(shares >= _PROPOSED_FROM)
        near = near[np.argsort(-shares[near], kind="stable")][:_CANDIDATES]
        named = np.unique(self._names.owners[names])
        return list(dict.fromkeys([*near.tolist(), *named.tolist()]))


class _Wanted:
    """A passage as it is looked for."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        content = content_of(passage.words)
        self.words, self.content = _spread(passage.words), _spread(content)
        self.n_words, self.n_content = len(passage.words), len(content)
        self.meaning = frozenset(content)
        self.n_telling = sum(map(is_telling, self.meaning))


class _Said:
    """A text as passages are looked for in it; what is costly is made when first needed."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.reading = read(text)
        self.called = frozenset(name_key(name) for name in self.reading.names)

    @cached_property
    def meaning(self) -> frozenset[str]:
        """Content words of the prose."""
        return frozenset(content_of(self.reading.statement))

    @cached_property
    def forms(self) -> tuple[tuple[str, str], ...]:
        """(words, content words) of the prose alone, and of everything."""
        everything = words_of(spaced(self._text))
        return tuple(
            (_spread(words), _spread(content_of(words)))
            for words in (self.reading.statement, everything)
        )


def _verified(index: int, wanted: _Wanted, said: _Said) -> Alike | None:
    names = [name for name in wanted.passage.names if name_key(name) in said.called]
    if _is_repeated(wanted, said, is_named=bool(names)):
        return Alike(index, True, 1.0)
    if _are_telling(wanted.passage.examples & said.reading.examples):
        return _reworded(index, wanted.meaning, said.meaning)
    for name in filter(is_specific, names):
        # What the name says already is no second witness.
        alike = _reworded(index, wanted.meaning - name_parts(name), said.meaning)
        if alike:
            return alike
    return None


def _is_repeated(wanted: _Wanted, said: _Said, *, is_named: bool) -> bool:
    is_evidence = wanted.n_telling >= LEAST_TELLING
    by_words = is_evidence and wanted.n_words >= LEAST_WORDS
    by_content = is_evidence and wanted.n_content >= LEAST_CONTENT
    by_content = by_content or (is_named and wanted.n_content >= LEAST_NAMED)
    return any(
        (by_content and wanted.content in content) or (by_words and wanted.words in words)
        for words, content in said.forms
    )


def _reworded(index: int, wanted: frozenset[str], said: frozenset[str]) -> Alike | None:
    """Return the likeness of a statement that kept most telling words and all decisive ones."""
    telling = {word for word in wanted if is_telling(word)}
    kept = telling & said
    if len(kept) < LEAST_KEPT or len(kept) < LEAST_ALIKE * len(telling):
        return None
    if any(is_decisive(word) for word in wanted - said):
        return None
    return Alike(index, False, len(kept) / len(telling))


def _are_telling(examples: frozenset[str]) -> bool:
    return len(examples) >= LEAST_EXAMPLES and sum(map(len, examples)) >= LEAST_EXAMPLE_CHARS


def _spread(words: Sequence[str]) -> str:
    """Return the words so joined that a run of words is a substring."""
    return f" {' '.join(words)} "


class _Pieces:
    """A text cut by word numbers."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _spans(self) -> tuple[str, list[int]]:
        spread = spaced(self._text)
        return spread, [word.start() for word in WORD.finditer(spread)]

    def between(self, start: int, stop: int) -> str:
        """Return the part from word number `start` to before number `stop`."""
        spread, starts = self._spans
        return spread[starts[start] : starts[stop] if stop < len(starts) else None]


def _pair_postings(pairs: dict[int, U64], n_passages: int) -> tuple[Postings, I64]:
    """Return where each telling pair stands, and how many each passage has (1 for none)."""
    everything = np.concatenate([np.empty(0, dtype=np.uint64), *pairs.values()])
    values, counts = np.unique(everything, return_counts=True)
    too_common = values[counts > max(20, _COMMON_PAIR * n_passages)]
    keys, owners = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    n_pairs = np.ones(n_passages, dtype=np.int64)
    for index, row in pairs.items():
        telling = row[~np.isin(row, too_common)]
        kept = telling if len(telling) else row
        keys.append(kept)
        owners.append(np.full(len(kept), index, dtype=np.int64))
        n_pairs[index] = max(1, len(kept))
    owned = np.concatenate(owners)
    return Postings(np.concatenate(keys), owned, np.zeros_like(owned)), n_pairs


def _name_postings(passages: Sequence[Passage]) -> Postings:
    """Return which tasks a specific name belongs to, by the hash of each of its spellings."""
    owners: dict[tuple[str, int], None] = {}
    for index, passage in enumerate(passages):
        for name in filter(is_specific, passage.names if passage.is_task else ()):
            owners.update(((spelt, index), None) for spelt in sorted(spellings(name)))
    indexes = np.array([index for _, index in owners], dtype=np.int64)
    return Postings(hashes_of(spelt for spelt, _ in owners), indexes, np.zeros_like(indexes))
