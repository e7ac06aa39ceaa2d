"""Long statements quoted: the share of a protected statement that a text repeats in 13-word runs.

Thirteen words are the usual measure (Brown et al. 2020, appendix C). A single run is weak evidence
where tasks are filled-in forms, so the covered share of the statement's own words decides, and it
must be clearly more than other tasks of the same list share with it; and below `LONG_WORDS` words
no number and no decisive word may be missing. Statements below `LEAST_WORDS` words are left to
`neighbours`, and reference answers in prose below `LONG_WORDS` words are no evidence.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from curation.boilerplate import NO_TEMPLATES, Templates
from curation.decontaminate.passages import COMMON_SHARE, FEW, Passage
from curation.decontaminate.reading import is_decisive
from curation.decontaminate.streams import Postings, canonical_stream, hashes_of, runs
from curation.dedupe.minhash import I64, U64

SIZE: Final = 13
"""Words of a run."""
LEAST_WORDS: Final = 2 * SIZE
LEAST_COVERAGE: Final = 0.5
"""Share of a statement's own words that must lie in common runs."""
LONG_WORDS: Final = 60
"""Words from which a statement with another number is still the same task."""
LONG_QUOTE: Final = 2 * SIZE
"""Own words in one piece that are a quotation whatever their share, unless tasks are forms."""


class Quotations:
    """Finds how much of each long statement a text quotes."""

    def __init__(self, passages: Sequence[Passage], templates: Templates = NO_TEMPLATES) -> None:
        usual = _runs_of(templates)
        self._own: dict[int, np.typing.NDArray[np.bool_]] = {}
        grams: dict[int, U64] = {}
        for index, passage in enumerate(passages):
            if len(passage.words) >= (LEAST_WORDS if passage.is_task else LONG_WORDS):
                grams[index] = runs(hashes_of(passage.words), SIZE)
        self._decisive = {index: _decisive(passages[index].words) for index in grams}
        by_source: dict[str, list[int]] = defaultdict(list)
        for index in grams:
            by_source[passages[index].source].append(index)
        keys, owners, positions = [], [], []
        for indexes in by_source.values():
            shared = np.union1d(usual, _shared([grams[index] for index in indexes]))
            for index in indexes:
                is_shared = np.isin(grams[index], shared)
                self._own[index] = ~_covered(np.flatnonzero(is_shared), len(passages[index].words))
                place = np.flatnonzero(~is_shared)
                keys.append(grams[index][place])
                owners.append(np.full(len(place), index, dtype=np.int64))
                positions.append(place)
        self._postings = Postings(
            np.concatenate([np.empty(0, dtype=np.uint64), *keys]),
            np.concatenate([np.empty(0, dtype=np.int64), *owners]),
            np.concatenate([np.empty(0, dtype=np.int64), *positions]),
        )
        self._required = self._requirements(passages, grams)

    def found_in(self, stream: U64) -> dict[int, float]:
        """Return passage index -> quoted share (0-1) of those that a text's word hashes quote."""
        return {
            index: share
            for index, share, longest in self._quoted(runs(stream, SIZE))
            if self._is_enough(index, share, longest, stream)
        }

    def _is_enough(self, index: int, share: float, longest: int, stream: U64) -> bool:
        if index not in self._required and longest >= LONG_QUOTE:
            return True
        least = self._required.get(index, LEAST_COVERAGE)
        return share >= least and bool(np.isin(self._decisive[index], stream).all())

    def _quoted(self, wanted: U64) -> Iterator[tuple[int, float, int]]:
        """Yield (passage, share of its own words quoted, words of the longest quotation)."""
        _, found = self._postings.find(np.unique(wanted))
        owners, positions = self._postings.owners[found], self._postings.positions[found]
        for index in np.unique(owners).tolist():
            own = self._own[index]
            quoted = _covered(positions[owners == index], len(own)) & own
            # A form whose blanks are a few words has too little of its own to be quoted.
            if own.sum() >= SIZE:
                yield index, float(quoted.sum() / own.sum()), _longest(quoted)

    def _requirements(self, passages: Sequence[Passage], grams: dict[int, U64]) -> dict[int, float]:
        """Return the least share of passages that more than `FEW` other tasks of a list quote.

        Halfway from what the most similar of those others share, up to all of it.
        """
        quoted: dict[int, list[float]] = defaultdict(list)
        for index, wanted in grams.items():
            for other, share, _ in self._quoted(wanted):
                if passages[other].source == passages[index].source and other != index:
                    quoted[other].append(share)
        required = {}
        for index, shares in quoted.items():
            if len(shares) > FEW:
                relative = sorted(shares, reverse=True)[FEW]
                required[index] = max(LEAST_COVERAGE, (1 + relative) / 2)
        return required


def _decisive(words: tuple[str, ...]) -> U64:
    """Return the hashes of what a text must hold to ask for the same; none of a long statement."""
    if len(words) >= LONG_WORDS:
        return np.empty(0, dtype=np.uint64)
    return hashes_of(word for word in words if is_decisive(word))


def _runs_of(templates: Templates) -> U64:
    """Return the runs of the texts that a role's prompts and answers share."""
    streams = canonical_stream([*templates.prompt, *templates.answer])
    rows = [runs(streams.row(index), SIZE) for index in range(len(streams.lengths))]
    return np.concatenate([np.empty(0, dtype=np.uint64), *rows])


def _shared(grams: list[U64]) -> U64:
    """Return the runs that more than a few of the statements hold."""
    if not grams:
        return np.empty(0, dtype=np.uint64)
    distinct = {row.tobytes(): np.unique(row) for row in grams}
    values, counts = np.unique(np.concatenate(list(distinct.values())), return_counts=True)
    found: U64 = values[counts > max(FEW, COMMON_SHARE * len(distinct))]
    return found


def _covered(starts: I64, n_words: int) -> np.typing.NDArray[np.bool_]:
    """Return which of `n_words` words lie in a run that begins at one of `starts`."""
    edges = np.zeros(n_words + SIZE + 1, dtype=np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + SIZE, -1)
    covered: np.typing.NDArray[np.bool_] = np.cumsum(edges)[:n_words] > 0
    return covered


def _longest(marked: np.typing.NDArray[np.bool_]) -> int:
    """Return the length of the longest run of marked words."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], marked.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))
