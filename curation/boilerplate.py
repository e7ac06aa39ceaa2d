"""Text that many prompts or answers share: how it is found in a sample, and taken off a text.

A shared instruction makes unlike texts look alike: 180 shared and 20 own words have a Jaccard of
0.8. It is taken off for comparison only, and only from `MIN_WORDS` words on: what is shorter can
carry no pair of texts over the threshold by itself. Pure: no database.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Final

PROMPT, ANSWER = "prompt", "answer"
MIN_WORDS: Final = 20
LEAST_SEEN: Final = 20
LEAST_SHARE: Final = 0.05
"""How many texts, and what share of them, must hold a template."""
MOST_TEXTS: Final = 32
"""Templates of one search: each is looked for in every text that is compared."""
MOST_WORDS: Final = 3000

_RUN: Final = 12
_SAME_LEVEL: Final = 0.8
"""A run held by less than this share of the texts that hold the one before begins another piece."""
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Templates:
    """The template texts of one role, as normalised text (see `curation.normalize`)."""

    prompt: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    digest: str = field(init=False)
    """SHA-256 (hex) of all of them; changes when what is compared changes."""

    def __post_init__(self) -> None:
        for part in (PROMPT, ANSWER):
            longest_first = tuple(sorted(getattr(self, part), key=lambda t: (-len(t), t)))
            object.__setattr__(self, part, longest_first)
        told_apart = "\0\0".join(("\0".join(self.prompt), "\0".join(self.answer)))
        object.__setattr__(self, "digest", hashlib.sha256(told_apart.encode()).hexdigest())

    def strip(self, part: str, text: str) -> str:
        """Return normalised `text` without the templates of `part` (`prompt` or `answer`).

        A text that is nothing but templates is returned whole: it would equal every other one.
        """
        between = " " if part == PROMPT else "\n"
        left = text
        for template in self.prompt if part == PROMPT else self.answer:
            if template in left:
                pieces = (piece.strip(" \n") for piece in left.split(template))
                left = between.join(piece for piece in pieces if piece)
        return left or text


NO_TEMPLATES: Final = Templates()


@dataclass(frozen=True, slots=True)
class SharedText:
    """A text found in many others."""

    text: str
    n_seen: int
    """How many of the given texts hold it."""
    share: float
    """Of the given texts, 0-1."""


def shared_texts(texts: Sequence[str], part: str) -> list[SharedText]:
    """Return what many of `texts` share, the most seen first; nothing below `LEAST_SEEN` texts.

    Found are the longest runs of words between two places where it changes how many texts go on
    alike; of an answer only whole lines. So a header that all share and a guide that a third of
    them have after it are two. Texts should be of different tasks: what is repeated because one
    task was asked often is no template.

    Args:
        texts: normalised texts, distinct; their first `MOST_WORDS` words are looked at.
        part: `prompt` or `answer`.
    """
    least = max(LEAST_SEEN, ceil(LEAST_SHARE * len(texts)))
    if len(texts) < least:
        return []
    rows = [_Row(text) for text in texts]
    n_texts_of = _frequencies(rows, least)
    found = Counter(piece for row in rows for piece in set(_pieces(row, n_texts_of, part)))
    counted = [
        SharedText(piece, n_seen, n_seen / len(texts))
        for piece in (piece for piece, n in found.items() if n >= least)
        if (n_seen := sum(piece in text for text in texts)) >= least
    ]
    counted.sort(key=lambda one: (-one.n_seen, -len(one.text), one.text))
    return counted[:MOST_TEXTS]


class _Row:
    """A text as words with their places, and the hashes of its runs of `_RUN` words."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = list(islice(_WORD.finditer(text), MOST_WORDS))
        hashes = [hash(word.group()) for word in self.words]
        self.runs = [hash(tuple(hashes[i : i + _RUN])) for i in range(len(hashes) - _RUN + 1)]


def _frequencies(rows: Sequence[_Row], least: int) -> dict[int, int]:
    """Return run -> number of texts that hold it, of those that at least `least` hold."""
    counts = Counter(run for row in rows for run in set(row.runs))
    return {run: n for run, n in counts.items() if n >= least}


def _pieces(row: _Row, n_texts_of: dict[int, int], part: str) -> Iterator[str]:
    """Yield the shared pieces of one text; words of a more shared piece are not part of others."""
    spans = sorted(_level_spans(row, n_texts_of), reverse=True)
    is_taken = [False] * len(row.words)
    for _, start, stop in spans:
        free = [i for i in range(start, stop) if not is_taken[i]]
        for first, last in _stretches(free):
            piece = _whole(row, first, last + 1, part)
            if piece is not None:
                yield piece
        is_taken[start:stop] = [True] * (stop - start)


def _level_spans(row: _Row, n_texts_of: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    """Yield (texts that hold it, first word, end) of stretches that about as many texts hold."""
    start, level = 0, 0
    for place, run in enumerate([*row.runs, None]):
        n_texts = 0 if run is None else n_texts_of.get(run, 0)
        if level and (n_texts < _SAME_LEVEL * level or level < _SAME_LEVEL * n_texts):
            yield level, start, place + _RUN - 1
            level = 0
        if n_texts and not level:
            start, level = place, n_texts


def _stretches(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each stretch of consecutive numbers."""
    first = 0
    for index in range(1, len(places) + 1):
        if index == len(places) or places[index] != places[index - 1] + 1:
            yield places[first], places[index - 1]
            first = index


def _whole(row: _Row, start: int, stop: int, part: str) -> str | None:
    """Return the text of some words, of an answer cut to whole lines; None if it is too short."""
    text, words = row.text, row.words
    if part == ANSWER:
        while start < stop and not _begins_line(text, words[start].start()):
            start += 1
        while start < stop and text[words[stop - 1].end() :][:1] not in ("", "\n"):
            stop -= 1
    if stop - start < MIN_WORDS:
        return None
    return text[words[start].start() : words[stop - 1].end()]


def _begins_line(text: str, place: int) -> bool:
    return text[:place].rpartition("\n")[2].strip("\t") == ""
