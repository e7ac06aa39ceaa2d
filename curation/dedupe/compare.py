"""When two examples repeat one another: MinHash band keys to meet by, exact Jaccard to decide.

Two examples are the same when their prompts *and* their answers are: one prompt with two answers is
two examples. Equal band keys make a pair worth a look, no more; each pair is verified on the exact
shingle sets. Nothing here knows a database: what is stored and looked up is `dedupe.index`'s.

In a short text every word counts, so below `short_below` words a repeat must also agree in what
carries meaning: the same numbers and operators, the same words of the answer in the same layout,
and a prompt that added or dropped words but swapped none ("sum" for "product") and moved none.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from typing import Final

import numpy as np

from curation.dedupe.minhash import (
    I64,
    U64,
    Ragged,
    band_keys,
    salt_of,
    shingle_hashes,
    signatures,
    word_hashes,
)
from curation.normalize import Normalized
from curation.recipe import RULE_VERSIONS, CurationRecipe

EXAMPLE, PROMPT = "example", "prompt"
"""Kinds of compared text: a prompt with its answer, and a prompt alone."""
_ANSWER_TAG: Final = np.uint64(0xA5A5_5A5A_C3C3_3C3C)
"""Sets answer shingles apart from prompt shingles in the one set of an example."""
_SENTENCE_MARKS: Final = frozenset(".,;:!?'\"`")


class Part:
    """A prompt or an answer as it is compared; what is costly is made when first needed."""

    def __init__(self, text: str, words: U64) -> None:
        self.text, self.words = text, words
        self._sets: dict[int, frozenset[int]] = {}

    def shingles(self, size: int) -> frozenset[int]:
        """Return the set of hashes of `size` consecutive words."""
        if size not in self._sets:
            one = Ragged(self.words, np.array([0, len(self.words)], dtype=np.int64))
            values = shingle_hashes(one, np.array([size])).values
            self._sets[size] = frozenset(values.tolist())
        return self._sets[size]

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
    """What two examples are compared by; `own_keys` are stored, `probe_keys` looked up."""

    prompt: Part
    answer: Part
    own_keys: list[int] = field(default_factory=list)
    probe_keys: list[int] = field(default_factory=list)


def world_salt(role: str, recipe: CurationRecipe, kind: str = EXAMPLE) -> np.uint64:
    """Return the salt of the band keys of one role, variant and kind of text."""
    return salt_of(role, recipe.variant, str(RULE_VERSIONS["signature"]), kind)


def fingerprints(
    texts: Sequence[Normalized], recipe: CurationRecipe, salt: np.uint64
) -> list[Fingerprint]:
    """Return the fingerprints of some examples, hashed in one go."""
    words = word_hashes([part for text in texts for part in (text.prompt, text.answer)])
    found = [
        Fingerprint(
            Part(text.prompt, words.row(2 * index)), Part(text.answer, words.row(2 * index + 1))
        )
        for index, text in enumerate(texts)
    ]
    owners, prompt_sizes, answer_sizes = [], [], []
    for index, made in enumerate(found):
        for prompt_size, answer_size in _size_pairs(made, recipe):
            owners.append(index)
            prompt_sizes.append(prompt_size)
            answer_sizes.append(answer_size)
    keys = _example_keys(words, owners, prompt_sizes, answer_sizes, recipe, salt)
    for owner, row in zip(owners, keys.tolist(), strict=True):
        made = found[owner]
        made.own_keys = made.own_keys or row
        made.probe_keys += row
    return found


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
    if is_short and (one.numbers != other.numbers or one.operators != other.operators):
        return None
    similarity = _verified_jaccard(one, other, recipe)
    if is_short and similarity is not None and _swaps_words(one, other):
        return None
    return similarity


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Return the share of common elements; 1.0 for two empty sets."""
    together = len(one | other)
    return len(one & other) / together if together else 1.0


def shingle_size(n_words: int, recipe: CurationRecipe) -> int:
    """Return the words per shingle of a text of `n_words` words."""
    if n_words < recipe.tiny_below:
        return 1
    return recipe.short_shingle if n_words < recipe.short_below else recipe.long_shingle


def _size_pairs(made: Fingerprint, recipe: CurationRecipe) -> list[tuple[int, int]]:
    """Return the (prompt, answer) shingle sizes to look up, its own first; none without words.

    Near a boundary of lengths a repeat may have been indexed with the next size, so both count.
    """
    if not len(made.prompt.words) and not len(made.answer.words):
        return []
    prompt_sizes = _sizes_nearby(len(made.prompt.words), recipe)
    answer_sizes = _sizes_nearby(len(made.answer.words), recipe)
    return [(p, a) for p in prompt_sizes for a in answer_sizes]


def _sizes_nearby(n_words: int, recipe: CurationRecipe) -> list[int]:
    least = recipe.near_duplicate_threshold
    lengths = (n_words, int(n_words * least), int(n_words / least))
    return list(dict.fromkeys(shingle_size(n, recipe) for n in lengths))


def _example_keys(
    words: Ragged,
    owners: list[int],
    prompt_sizes: list[int],
    answer_sizes: list[int],
    recipe: CurationRecipe,
    salt: np.uint64,
) -> I64:
    """Return band keys over the union of tagged prompt and answer shingles, one row per owner."""
    rows = np.array([(2 * owner, 2 * owner + 1) for owner in owners], dtype=np.int64).reshape(-1)
    sizes = np.array(list(zip(prompt_sizes, answer_sizes, strict=True)), dtype=np.int64)
    shingles = shingle_hashes(words.take(rows), sizes.reshape(-1))
    is_answer = np.repeat(np.arange(len(rows)) % 2 == 1, shingles.lengths)
    tagged = np.where(is_answer, shingles.values ^ _ANSWER_TAG, shingles.values)
    both = Ragged(tagged, shingles.offsets[::2])
    salts = np.full(len(owners), salt, dtype=np.uint64)
    return band_keys(signatures(both, recipe.num_perm), recipe.bands, recipe.rows, salts)


def prompt_keys(
    parts: Sequence[Part], recipe: CurationRecipe, salt: np.uint64
) -> list[tuple[list[int], list[int]]]:
    """Return (own keys, keys to look up) of each prompt alone; a prompt without words has none."""
    owners, sizes = [], []
    for index, part in enumerate(parts):
        for size in _sizes_nearby(len(part.words), recipe) if len(part.words) else ():
            owners.append(index)
            sizes.append(size)
    offsets = np.cumsum([0, *(len(part.words) for part in parts)], dtype=np.int64)
    words = Ragged(np.concatenate([np.empty(0, np.uint64), *(p.words for p in parts)]), offsets)
    rows = words.take(np.array(owners, dtype=np.int64))
    found = signatures(shingle_hashes(rows, np.array(sizes, dtype=np.int64)), recipe.num_perm)
    salts = np.full(len(owners), salt, dtype=np.uint64)
    keys: list[tuple[list[int], list[int]]] = [([], []) for _ in parts]
    all_keys = band_keys(found, recipe.bands, recipe.rows, salts).tolist()
    for owner, row in zip(owners, all_keys, strict=True):
        own, probed = keys[owner]
        keys[owner] = (own or row, probed + row)
    return keys


def _verified_jaccard(one: Part, other: Part, recipe: CurationRecipe) -> float | None:
    shorter, longer = sorted((len(one.words), len(other.words)))
    threshold = recipe.near_duplicate_threshold
    if shorter < longer * threshold:
        return None
    size = shingle_size(shorter, recipe)
    similarity = jaccard(one.shingles(size), other.shingles(size))
    return similarity if similarity >= threshold else None


def _swaps_words(one: Part, other: Part) -> bool:
    """Return whether a text has other words in the place of the other's, or its words elsewhere."""
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
