"""Dedupe a list of texts in memory, without a database: for notebooks, scripts and measurements.

What a repeat is, is said in `dedupe.compare`, as for datasets. Which pairs are worth comparing is
found by our own band keys, or by datasketch's signatures and index, an independent implementation.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np

from curation.dedupe.compare import Fingerprint, Part, duplicate_similarity
from curation.dedupe.keys import example_keys, example_shingles
from curation.dedupe.minhash import I64, Ragged, hashed_words, salt_of
from curation.masks import decoded, masked_bytes
from curation.normalize import Normalized, one_line, with_depth
from curation.recipe import CurationRecipe
from foundation.errors import BadInput

NUMPY, DATASKETCH = "numpy", "datasketch"
ENGINES: Final = (NUMPY, DATASKETCH)
_LENGTH_AT_ONCE: Final = 1 << 19
"""Characters of about 256 texts of two hundred words, whose arrays stay in a core's cache."""
_Text = TypeVar("_Text", str, bytes)


@dataclass(frozen=True, slots=True)
class Repeat:
    """That a text repeats an earlier one, which is kept."""

    of: int
    """Index of the text that is kept."""
    similarity: float
    """Exact Jaccard, the smaller of prompt's and answer's."""
    is_exact: bool
    """Whether the compared texts are the same."""


class _Masked:
    """Texts as they are hashed: in lower case, masked, UTF-8."""

    def __init__(self, texts: Sequence[str | tuple[str, str]]) -> None:
        self.prompts: list[bytes] = []
        self.answers: list[bytes] = []
        for block in _blocks([("", text) if isinstance(text, str) else text for text in texts]):
            masked = masked_bytes([part for parts in zip(*block, strict=True) for part in parts])
            self.prompts += masked[: len(block)]
            self.answers += masked[len(block) :]

    def words(self) -> Iterator[Ragged]:
        """Yield the word hashes, some texts at a time: their prompts, then their answers."""
        for block in _blocks(list(zip(self.prompts, self.answers, strict=True))):
            yield hashed_words([part for parts in zip(*block, strict=True) for part in parts])

    def fingerprints(self, which: Sequence[int]) -> Iterator[tuple[int, Normalized, Fingerprint]]:
        """Yield some texts as they are compared."""
        numbers = iter(which)
        for block in _blocks([(self.prompts[i], self.answers[i]) for i in which]):
            words = hashed_words([part for parts in zip(*block, strict=True) for part in parts])
            for row, (asked, answered) in enumerate(block):
                text = Normalized(one_line(decoded(asked)), with_depth(decoded(answered)))
                prompt = Part(text.prompt, words.row(row))
                answer = Part(text.answer, words.row(len(block) + row))
                yield next(numbers), text, Fingerprint(prompt, answer)


def _blocks(pairs: Sequence[tuple[_Text, _Text]]) -> Iterator[Sequence[tuple[_Text, _Text]]]:
    """Yield the pairs in groups of about `_LENGTH_AT_ONCE`."""
    start, length = 0, 0
    for index, (prompt, answer) in enumerate(pairs):
        length += len(prompt) + len(answer)
        if length >= _LENGTH_AT_ONCE:
            yield pairs[start : index + 1]
            start, length = index + 1, 0
    if start < len(pairs):
        yield pairs[start:]


class _Index(Protocol):
    """Finds the kept texts that a text may repeat."""

    def suspects(self) -> list[int]:
        """Return, in order, the texts that may repeat another or be repeated."""

    def near(self, index: int) -> set[int]:
        """Return the kept texts that it may repeat."""

    def keep(self, index: int) -> None:
        """Let later texts find it."""


def dedupe_texts(
    texts: Sequence[str | tuple[str, str]],
    recipe: CurationRecipe | None = None,
    engine: str = NUMPY,
) -> dict[int, Repeat]:
    """Return, by index, the texts that repeat an earlier one.

    Args:
        texts: texts, or (prompt, answer) pairs; a text alone is an answer without a prompt.
        recipe: what counts as a repeat; None: the default recipe.
        engine: `numpy`, or `datasketch`, which must be installed.

    Raises:
        BadInput: an engine that there is none of.
    """
    recipe = recipe or CurationRecipe()
    if engine not in ENGINES:
        raise BadInput("dedupe engine", engine, f"one of {ENGINES}", "Leave it out for numpy.")
    masked = _Masked(texts)
    index = (_KeyIndex if engine == NUMPY else _DatasketchIndex)(masked, recipe)
    return _decided(masked, index, recipe)


def _decided(masked: _Masked, index: _Index, recipe: CurationRecipe) -> dict[int, Repeat]:
    """Go through the suspects in order: each repeats a kept text, the most alike, or is kept."""
    repeats: dict[int, Repeat] = {}
    kept: dict[int, Fingerprint] = {}
    known: dict[Normalized, Repeat] = {}
    for number, text, fingerprint in masked.fingerprints(index.suspects()):
        if text in known:
            repeats[number] = known[text]
            continue
        found = [
            (similarity, -other)
            for other in index.near(number)
            if (similarity := duplicate_similarity(fingerprint, kept[other], recipe)) is not None
        ]
        if found:
            similarity, other = max(found)
            repeats[number] = known[text] = Repeat(-other, similarity, is_exact=False)
        else:
            kept[number], known[text] = fingerprint, Repeat(number, 1.0, is_exact=True)
            index.keep(number)
    return repeats


class _KeyIndex:
    """Our own band keys."""

    def __init__(self, masked: _Masked, recipe: CurationRecipe) -> None:
        salt = salt_of("adhoc")
        blocks = [example_keys(words, recipe, salt) for words in masked.words()]
        starts = np.cumsum([0, *(len(block.own) for block in blocks)], dtype=np.int64)
        none = np.empty((0, recipe.bands), dtype=np.int64)
        self._own = np.concatenate([none, *(block.own for block in blocks)])
        self._has_words = np.concatenate([none[:, 0] > 0, *(b.has_words for b in blocks)])
        owners = [block.owners + start for block, start in zip(blocks, starts, strict=False)]
        self._owners = np.concatenate([none[:, 0], *owners])
        order = np.argsort(self._owners)
        self._owners = self._owners[order]
        self._further = np.concatenate([none, *(block.further for block in blocks)])[order]
        self._kept: dict[int, list[int]] = defaultdict(list)
        self._cap = recipe.hot_bucket_cap

    def suspects(self) -> list[int]:
        rows = np.flatnonzero(self._has_words)
        owners = np.repeat(np.concatenate((rows, self._owners)), self._own.shape[1])
        keys = np.concatenate((self._own[rows], self._further)).reshape(-1)
        found: list[int] = np.union1d(
            _meeting(keys, owners), np.flatnonzero(~self._has_words)
        ).tolist()
        return found

    def near(self, index: int) -> set[int]:
        if not self._has_words[index]:
            return set()
        first, last = np.searchsorted(self._owners, (index, index + 1))
        keys = self._own[index].tolist() + self._further[first:last].reshape(-1).tolist()
        return {kept for key in keys for kept in self._kept.get(key, ())[: self._cap]}

    def keep(self, index: int) -> None:
        if self._has_words[index]:
            for key in self._own[index].tolist():
                self._kept[key].append(index)


class _DatasketchIndex:
    """Datasketch's signatures and index, over the same shingles."""

    def __init__(self, masked: _Masked, recipe: CurationRecipe) -> None:
        from datasketch import MinHash, MinHashLSH

        sets = [
            [value.tobytes() for value in values]
            for words in masked.words()
            for values in example_shingles(words, recipe)
        ]
        self._found = MinHash.bulk(sets, num_perm=recipe.num_perm)
        self._has_words = [bool(each) for each in sets]
        params = (recipe.bands, recipe.rows)
        self._all = MinHashLSH(params=params, num_perm=recipe.num_perm)
        self._kept = MinHashLSH(params=params, num_perm=recipe.num_perm)
        for index, found in enumerate(self._found):
            self._all.insert(index, found)

    def suspects(self) -> list[int]:
        return [i for i, found in enumerate(self._found) if len(self._all.query(found)) > 1]

    def near(self, index: int) -> set[int]:
        return set(self._kept.query(self._found[index])) if self._has_words[index] else set()

    def keep(self, index: int) -> None:
        if self._has_words[index]:
            self._kept.insert(index, self._found[index])


def _meeting(keys: I64, owners: I64) -> I64:
    """Return the owners of keys that occur more than once."""
    order = np.argsort(keys)
    ordered = keys[order]
    is_same = ordered[1:] == ordered[:-1]
    return owners[order[np.concatenate((is_same, [False])) | np.concatenate(([False], is_same))]]
