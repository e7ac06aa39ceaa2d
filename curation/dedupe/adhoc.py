"""Dedupe a list of texts in memory, without a database: for notebooks, scripts and measurements.

What a repeat is, is said in `dedupe.compare`, as for datasets. Which pairs are worth comparing is
found by our own band keys, or by datasketch's signatures and index, an independent implementation.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from typing import Final, Protocol

import numpy as np

from curation.dedupe.compare import Fingerprint, Part, duplicate_similarity
from curation.dedupe.keys import example_keys, example_shingles, shingle_sizes
from curation.dedupe.minhash import I64, hashed_words, salt_of, shingle_hashes
from curation.masks import decoded, masked_bytes
from curation.normalize import one_line, with_depth
from curation.recipe import CurationRecipe
from foundation.errors import BadInput

NUMPY, DATASKETCH = "numpy", "datasketch"
ENGINES: Final = (NUMPY, DATASKETCH)
_BYTES_AT_ONCE: Final = 1 << 19
"""Of texts that are hashed together."""


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
    """Texts as they are hashed: in lower case, masked, UTF-8; the words are hashed once."""

    def __init__(self, texts: Sequence[str | tuple[str, str]]) -> None:
        self.prompts = masked_bytes(["" if isinstance(text, str) else text[0] for text in texts])
        self.answers = masked_bytes([text if isinstance(text, str) else text[1] for text in texts])
        self._blocks = _blocks(self.prompts, self.answers)
        self.words = [
            hashed_words([*self.prompts[block], *self.answers[block]]) for block in self._blocks
        ]
        """Of some texts each: of their prompts, then of their answers."""

    def are_same(self, one: int, other: int) -> bool:
        """Return whether two texts agree to the byte."""
        return self.prompts[one] == self.prompts[other] and self.answers[one] == self.answers[other]

    def fingerprints(
        self, which: Sequence[int], recipe: CurationRecipe
    ) -> Iterator[tuple[int, Fingerprint]]:
        """Yield some texts, given in order, as they are compared."""
        wanted = np.array(which, dtype=np.int64)
        for block, all_words in zip(self._blocks, self.words, strict=True):
            first, last = np.searchsorted(wanted, (block.start, block.stop))
            numbers = which[first:last]
            rows = wanted[first:last] - block.start
            words = all_words.take(np.append(rows, rows + block.stop - block.start))
            sizes = shingle_sizes(words.lengths, recipe)
            parts = map(
                Part,
                [
                    *(partial(_one_line, self.prompts[i]) for i in numbers),
                    *(partial(_with_depth, self.answers[i]) for i in numbers),
                ],
                words.rows(),
                [
                    {size: runs}
                    for size, runs in zip(
                        sizes.tolist(), shingle_hashes(words, sizes).rows(), strict=True
                    )
                ],
            )
            asked = list(islice(parts, len(numbers)))
            yield from zip(numbers, map(Fingerprint, asked, parts), strict=True)


def _blocks(prompts: Sequence[bytes], answers: Sequence[bytes]) -> list[slice]:
    """Return the texts in groups of about `_BYTES_AT_ONCE`."""
    sizes = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    group = np.cumsum(sizes, dtype=np.int64) // _BYTES_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(sizes)]
    return [slice(first, last) for first, last in pairwise(edges)]


def _one_line(masked: bytes) -> str:
    return one_line(decoded(masked))


def _with_depth(masked: bytes) -> str:
    return with_depth(decoded(masked))


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
    seen: dict[tuple[bytes, bytes], list[tuple[int, Fingerprint, Repeat]]] = defaultdict(list)
    for number, text in masked.fingerprints(index.suspects(), recipe):
        alike = seen[text.prompt.words.tobytes(), text.answer.words.tobytes()]
        for other, one, repeat in alike:
            if masked.are_same(number, other) or _are_same(text, one):
                repeats[number] = repeat
                break
        else:
            found = _best(text, {i: kept[i] for i in index.near(number)}, recipe)
            if found is None:
                kept[number] = text
                index.keep(number)
            else:
                repeats[number] = found
            alike.append((number, text, found or Repeat(number, 1.0, is_exact=True)))
    return repeats


def _are_same(one: Fingerprint, other: Fingerprint) -> bool:
    return one.prompt.text == other.prompt.text and one.answer.text == other.answer.text


def _best(
    fingerprint: Fingerprint, near: dict[int, Fingerprint], recipe: CurationRecipe
) -> Repeat | None:
    """Return what a text repeats: the most alike of the kept ones near, the first of equals."""
    found = [
        (similarity, -number)
        for number, kept in near.items()
        if (similarity := duplicate_similarity(fingerprint, kept, recipe)) is not None
    ]
    if not found:
        return None
    similarity, number = max(found)
    return Repeat(-number, similarity, is_exact=False)


class _KeyIndex:
    """Our own band keys, of which only those that several texts have are kept."""

    def __init__(self, masked: _Masked, recipe: CurationRecipe) -> None:
        salt, n_texts = salt_of("adhoc"), 0
        keys, owners = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        self._wordless: list[int] = []
        for words in masked.words:
            block = example_keys(words, recipe, salt)
            of_block, of_whom = block.flat()
            keys.append(of_block)
            owners.append(n_texts + of_whom)
            self._wordless += (n_texts + np.flatnonzero(~block.has_words)).tolist()
            n_texts += len(block.has_words)
        self._keys = _shared(np.concatenate(keys), np.concatenate(owners))
        self._kept: dict[int, list[int]] = defaultdict(list)
        self._cap = recipe.hot_bucket_cap

    def suspects(self) -> list[int]:
        return sorted([*self._keys, *self._wordless])

    def near(self, index: int) -> set[int]:
        buckets = [self._kept[key] for key in self._keys.get(index, ()) if key in self._kept]
        return {kept for bucket in buckets for kept in bucket[: self._cap]}

    def keep(self, index: int) -> None:
        for key in self._keys.get(index, ()):
            self._kept[key].append(index)


class _DatasketchIndex:
    """Datasketch's signatures and index, over the same shingles."""

    def __init__(self, masked: _Masked, recipe: CurationRecipe) -> None:
        from datasketch import MinHash, MinHashLSH

        sets = [
            [value.tobytes() for value in values]
            for words in masked.words
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


def _shared(keys: I64, owners: I64) -> dict[int, list[int]]:
    """Return the keys of each owner that occur more than once."""
    order = np.argsort(keys)
    ordered = keys[order]
    is_same = np.zeros(len(keys) + 1, dtype=bool)
    np.equal(ordered[1:], ordered[:-1], out=is_same[1:-1])
    met = np.flatnonzero(is_same[1:] | is_same[:-1])
    found: dict[int, list[int]] = defaultdict(list)
    for owner, key in zip(owners[order[met]].tolist(), ordered[met].tolist(), strict=True):
        found[owner].append(key)
    return dict(found)
