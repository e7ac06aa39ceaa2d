"""When two examples repeat one another: MinHash band keys to meet by, exact Jaccard to decide.

Two examples are the same when their prompts *and* their answers are: one prompt with two answers is
two examples. Equal band keys make a pair worth a look, no more; each pair is verified on the exact
shingle sets. Nothing here knows a database: what is stored and looked up is `dedupe.index`'s.

In a short text every word counts, so below `short_below` words a repeat must also agree in what
carries meaning: the same numbers and operators, the same words of the answer in the same layout,
and a prompt that added or dropped words but swapped none ("sum" for "product") and moved none.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from types import MappingProxyType
from typing import Final

import numpy as np

from curation.dedupe.keys import EXAMPLE, PROMPT, example_keys, shingle_size, text_keys, world_salt
from curation.dedupe.minhash import U64, Ragged, run_hashes, word_hashes
from curation.normalize import Normalized
from curation.recipe import CurationRecipe

__all__ = [
    "EXAMPLE",
    "PROMPT",
    "Fingerprint",
    "Part",
    "answer_similarity",
    "duplicate_similarity",
    "fingerprints",
    "jaccard",
    "prompt_keys",
    "prompt_similarity",
    "world_salt",
]

NO_RUNS: Final[Mapping[int, U64]] = MappingProxyType({})
_SENTENCE_MARKS: Final = frozenset(".,;:!?'\"`")


class Part:
    """A prompt or an answer as it is compared; what is costly is made when first needed.

    Args:
        text: the compared text, or what makes it.
        words: hashes of its words.
        runs: hashes of its runs of words by their length, where they are known.
    """

    def __init__(
        self, text: str | Callable[[], str], words: U64, runs: Mapping[int, U64] = NO_RUNS
    ) -> None:
        self._text, self.words, self._runs = text, words, runs
        self._shingles: dict[int, U64] = {}

    @cached_property
    def text(self) -> str:
        """The compared text."""
        return self._text if isinstance(self._text, str) else self._text()

    def shingles(self, size: int) -> U64:
        """Return the distinct runs of `size` consecutive words, as numbers in order."""
        if size not in self._shingles:
            known = self._runs.get(size)
            found = np.sort(run_hashes(self.words, size) if known is None else known)
            is_last = np.ones(len(found), dtype=bool)
            np.not_equal(found[1:], found[:-1], out=is_last[:-1])
            self._shingles[size] = found[is_last]
        return self._shingles[size]

    @cached_property
    def numbers(self) -> Counter[str]:
        """Words that begin with a digit, with their counts."""
        return Counter(word for word in _words(self.text) if word[0].isdigit())

    @cached_property
    def operators(self) -> str:
        """Marks that are neither words nor punctuation of a sentence, in order."""
        return "".join(mark for mark in self.text if _is_operator(mark))

    @cached_property
    def layout(self) -> tuple[int, ...]:
        """Depth of each line."""
        return tuple(len(line) - len(line.lstrip("\t")) for line in self.text.split("\n"))


@dataclass(slots=True)
class Fingerprint:
    """What two examples are compared by, and the band keys by which they meet."""

    prompt: Part
    answer: Part
    keys: list[int] = field(default_factory=list)


def fingerprints(
    texts: Sequence[Normalized], recipe: CurationRecipe, salt: np.uint64
) -> list[Fingerprint]:
    """Return the fingerprints of some examples, hashed in one go."""
    parts = [*(text.prompt for text in texts), *(text.answer for text in texts)]
    words = word_hashes(parts)
    keys = example_keys(words, recipe, salt).lists()
    sides = [Part(part, words.row(row)) for row, part in enumerate(parts)]
    return [
        Fingerprint(prompt, answer, own)
        for prompt, answer, own in zip(sides[: len(texts)], sides[len(texts) :], keys, strict=True)
    ]


def prompt_keys(parts: Sequence[Part], recipe: CurationRecipe, salt: np.uint64) -> list[list[int]]:
    """Return the band keys of each prompt alone; a prompt without words has none."""
    offsets = np.cumsum([0, *(len(part.words) for part in parts)], dtype=np.int64)
    words = Ragged(np.concatenate([np.empty(0, np.uint64), *(p.words for p in parts)]), offsets)
    return text_keys(words, recipe, salt).lists()


def duplicate_similarity(
    one: Fingerprint, other: Fingerprint, recipe: CurationRecipe
) -> float | None:
    """Return the smaller Jaccard of answers and of prompts, or None if they are no repeats."""
    answers = answer_similarity(one.answer, other.answer, recipe)
    if answers is None:
        return None
    prompts = prompt_similarity(one.prompt, other.prompt, recipe)
    return None if prompts is None else min(answers, prompts)


def answer_similarity(one: Part, other: Part, recipe: CurationRecipe) -> float | None:
    """Return the Jaccard of two answers, or None if they differ; short ones to the word."""
    if _is_short(one, other, recipe) and (
        not np.array_equal(one.words, other.words)
        or one.operators != other.operators
        or one.layout != other.layout
    ):
        return None
    return _verified_jaccard(one, other, recipe)


def prompt_similarity(one: Part, other: Part, recipe: CurationRecipe) -> float | None:
    """Return the Jaccard of two prompts, or None if they ask for different things."""
    is_short = _is_short(one, other, recipe)
    if is_short and one.text == other.text:
        return 1.0
    if is_short and (one.numbers != other.numbers or one.operators != other.operators):
        return None
    similarity = _verified_jaccard(one, other, recipe)
    if is_short and similarity is not None and _swaps_words(one, other):
        return None
    return similarity


def jaccard(one: U64, other: U64) -> float:
    """Return the share of common numbers of two sets (without repeats); 1.0 for two empty ones."""
    both = np.concatenate((one, other))
    both.sort()
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    together = len(both) - shared
    return shared / together if together else 1.0


def _verified_jaccard(one: Part, other: Part, recipe: CurationRecipe) -> float | None:
    shorter, longer = sorted((len(one.words), len(other.words)))
    threshold = recipe.near_duplicate_threshold
    if shorter < longer * threshold:
        return None
    if np.array_equal(one.words, other.words):
        return 1.0
    size = shingle_size(shorter, recipe)
    similarity = jaccard(one.shingles(size), other.shingles(size))
    return similarity if similarity >= threshold else None


def _swaps_words(one: Part, other: Part) -> bool:
    """Return whether a text has other words in the place of the other's, or its words elsewhere."""
    if np.array_equal(one.words, other.words):
        return False
    ours, theirs = one.words.tolist(), other.words.tolist()
    added, dropped = set(), set()
    for tag, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "replace":
            return True
        if tag != "equal":
            dropped.update(ours[a:b])
            added.update(theirs[c:d])
    return not added.isdisjoint(dropped)


def _is_short(one: Part, other: Part, recipe: CurationRecipe) -> bool:
    return min(len(one.words), len(other.words)) < recipe.short_below


def _is_operator(mark: str) -> bool:
    return not (mark.isalnum() or mark.isspace() or mark == "_" or mark in _SENTENCE_MARKS)


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
