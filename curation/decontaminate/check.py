"""Which texts repeat which protected ones, by which method, and how closely.

The methods from the surest to the loosest: `key` (a task, instance or repository named), `exact`
(the whole prompt), `near` (most of the prompt's word runs), `ngram` (a long statement quoted, or a
short one word for word), `identifier` (the reference solution under other names), `rephrased` (a
reworded statement with a second witness). Of several the surest is reported.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np

from curation.boilerplate import NO_TEMPLATES, Templates
from curation.decontaminate.identifiers import Solutions
from curation.decontaminate.neighbours import Neighbours
from curation.decontaminate.ngrams import Quotations
from curation.decontaminate.passages import ProtectedItem, passages_of
from curation.decontaminate.reading import WORD
from curation.decontaminate.streams import canonical_stream, runs
from curation.dedupe.minhash import U64

KEY, EXACT, NEAR, NGRAM, IDENTIFIER, REPHRASED = METHODS = (
    *("key", "exact", "near", "ngram", "identifier", "rephrased"),
)
NEAR_FROM: Final = 0.8
"""Jaccard of 3-word runs of the whole prompts."""
_LEAST_KEY: Final = 8
"""Characters from which a key is searched in texts; a shorter one must be the task's key."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A text that may repeat a protected one."""

    prompt: str
    answer: str = ""
    keys: frozenset[str] = frozenset()
    """Task key, project: names that are compared with the protected keys as they are."""

    @property
    def text(self) -> str:
        """All that could be learned from it."""
        return f"{self.prompt}\n{self.answer}"


@dataclass(frozen=True, slots=True)
class Hit:
    """A protected text that a suspect repeats; similarity is in 0-1, its meaning the method's."""

    protected_id: UUID
    method: str
    similarity: float


class Guard:
    """The protected texts, made ready to be searched for; building it costs a pass over them.

    Runs of words of a role's own `templates` are no evidence.
    """

    def __init__(self, items: Sequence[ProtectedItem], templates: Templates = NO_TEMPLATES) -> None:
        self.items = list(items)
        self._passages = passages_of(self.items)
        self._quotations = Quotations(self._passages, templates)
        self._neighbours = Neighbours(self._passages)
        self._solutions = Solutions(self.items)
        self._keys = _Keys(self.items)
        self._exact: dict[str, list[int]] = {}
        for index, item in enumerate(self.items):
            if _collapsed(item.prompt):
                self._exact.setdefault(_collapsed(item.prompt), []).append(index)
        prompts = canonical_stream([item.prompt for item in self.items])
        self._runs = [np.unique(runs(prompts.row(i), 3)) for i in range(len(self.items))]

    def check(self, suspects: Sequence[Suspect]) -> list[list[Hit]]:
        """Return what each suspect repeats, the surest hit first; nothing for an empty text."""
        streams = canonical_stream([suspect.text for suspect in suspects])
        return [self._hits(suspect, streams.row(number)) for number, suspect in enumerate(suspects)]

    def _hits(self, suspect: Suspect, stream: U64) -> list[Hit]:
        found: dict[int, tuple[str, float]] = {}

        def note(index: int, method: str, similarity: float) -> None:
            said = found.get(index)
            if said is None or _sureness(method, similarity) > _sureness(*said):
                found[index] = (method, similarity)

        for index in self._keys.found_in(suspect):
            note(index, KEY, 1.0)
        for index in self._exact.get(_collapsed(suspect.prompt), ()):
            note(index, EXACT, 1.0)
        for passage, share in self._quotations.found_in(stream).items():
            note(self._passages[passage].owner, NGRAM, share)
        for alike in self._neighbours.found_in(suspect.text, stream):
            method = NGRAM if alike.is_whole else REPHRASED
            note(self._passages[alike.passage].owner, method, alike.similarity)
        for index, share in self._solutions.found_in(suspect.text).items():
            note(index, IDENTIFIER, share)
        if found:
            prompt = np.unique(runs(canonical_stream([suspect.prompt]).row(0), 3))
            for index in list(found):
                likeness = _jaccard(prompt, self._runs[index])
                if likeness >= NEAR_FROM:
                    note(index, NEAR, likeness)
        hits = [Hit(self.items[i].id, method, value) for i, (method, value) in found.items()]
        return sorted(hits, key=lambda h: _sureness(h.method, h.similarity), reverse=True)


class _Keys:
    """Protected keys: compared with a suspect's own, and long ones searched in its text."""

    def __init__(self, items: Sequence[ProtectedItem]) -> None:
        self._owners: dict[str, list[int]] = {}
        for index, item in enumerate(items):
            for key in item.keys:
                if key.strip():
                    self._owners.setdefault(key.strip().lower(), []).append(index)
        self._by_first_word: dict[str, list[str]] = {}
        for key in self._owners:
            words = WORD.findall(key)
            if _is_telling(key) and words:
                self._by_first_word.setdefault(max(words, key=len), []).append(key)

    def found_in(self, suspect: Suspect) -> set[int]:
        named = {key.lower() for key in suspect.keys} & self._owners.keys()
        if self._by_first_word:
            text = suspect.text.lower()
            for word in self._by_first_word.keys() & set(WORD.findall(text)):
                named.update(key for key in self._by_first_word[word] if _is_named(key, text))
        return {index for key in named for index in self._owners[key]}


def _is_telling(key: str) -> bool:
    """Whether a key is so made that a text with it means it: parts, and a digit or a slash."""
    has_parts = "/" in key or "__" in key or ("-" in key and any(map(str.isdigit, key)))
    return len(key) >= _LEAST_KEY and has_parts and not any(map(str.isspace, key))


def _is_named(key: str, text: str) -> bool:
    if key not in text:
        return False
    return re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", text) is not None


def _collapsed(text: str) -> str:
    return " ".join(text.lower().split())


def _sureness(method: str, similarity: float) -> tuple[int, float]:
    return -METHODS.index(method), similarity


def _jaccard(one: U64, other: U64) -> float:
    together = len(np.union1d(one, other))
    return float(len(np.intersect1d(one, other)) / together) if together else 0.0
