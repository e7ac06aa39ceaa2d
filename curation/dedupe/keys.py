"""The band keys that texts are stored and looked up under, for many texts at once.

An example's set is that of its prompt's shingles and its answer's, told apart by a tag, so its
signature is the lesser of the two parts' in every place. Shorter texts have shorter shingles, and a
pair is compared by the size of the shorter one: so a text that a repeat of it may be too short for
has keys by that size as well. Each text is stored and looked up under all of its keys.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curation.dedupe.minhash import (
    I64,
    U32,
    U64,
    Ragged,
    band_keys,
    salt_of,
    shingle_hashes,
    signatures,
)
from curation.recipe import RULE_VERSIONS, CurationRecipe

EXAMPLE, PROMPT = "example", "prompt"
"""Kinds of compared text: a prompt with its answer, and a prompt alone."""
_ANSWER_TAG: Final = np.uint64(0xA5A5_5A5A_C3C3_3C3C)


@dataclass(frozen=True, slots=True)
class Keys:
    """Band keys of n texts; a text without words has none."""

    own: I64
    """By their own sizes of shingles, shape (n, bands); meaningless where `has_words` is false."""
    has_words: NDArray[np.bool_]
    owners: I64
    """Whose the further keys are, shape (m,)."""
    further: I64
    """By the sizes of shorter repeats, shape (m, bands)."""

    def flat(self) -> tuple[I64, I64]:
        """Return all keys, and whose each is."""
        rows = np.flatnonzero(self.has_words)
        owners = np.repeat(np.concatenate((rows, self.owners)), self.own.shape[1])
        return np.concatenate((self.own[rows], self.further)).reshape(-1), owners

    def lists(self) -> list[list[int]]:
        """Return the keys of each text."""
        rows = zip(self.own.tolist(), self.has_words.tolist(), strict=True)
        found = [own if has_words else [] for own, has_words in rows]
        for owner, further in zip(self.owners.tolist(), self.further.tolist(), strict=True):
            found[owner].extend(further)
        return found


def world_salt(role: str, recipe: CurationRecipe, kind: str = EXAMPLE) -> np.uint64:
    """Return the salt of the band keys of one role, variant and kind of text."""
    return salt_of(role, recipe.variant, str(RULE_VERSIONS["signature"]), kind)


def example_keys(words: Ragged, recipe: CurationRecipe, salt: np.uint64) -> Keys:
    """Return the keys of examples; the first half of the rows are prompts, the other answers."""
    n = len(words.lengths) // 2
    has_words = (words.lengths[:n] > 0) | (words.lengths[n:] > 0)
    sized = _signed_by_size(words, n, recipe)
    own = np.minimum(sized[0].found[:n], sized[0].found[n:])
    owners, further = [np.empty(0, dtype=np.int64)], [own[:0]]
    for of_prompt, of_answer in list(product(sized, repeat=2))[1:]:
        both = np.flatnonzero(of_prompt.is_in[:n] & of_answer.is_in[n:] & has_words)
        owners.append(both)
        further.append(np.minimum(of_prompt.at(both), of_answer.at(n + both)))
    return _keys(own, has_words, owners, further, recipe, salt)


def example_shingles(words: Ragged, recipe: CurationRecipe) -> list[U64]:
    """Return the shingle hashes of examples by their own sizes; rows as in `example_keys`."""
    n = len(words.lengths) // 2
    shingles = _tagged_shingles(words, n, shingle_sizes(words.lengths, recipe))
    return [np.concatenate((shingles.row(i), shingles.row(n + i))) for i in range(n)]


def text_keys(words: Ragged, recipe: CurationRecipe, salt: np.uint64) -> Keys:
    """Return the keys of texts of one part each, such as prompts alone."""
    has_words = words.lengths > 0
    own, *others = _signed_by_size(words, len(words.lengths), recipe)
    owners = [np.flatnonzero(sized.is_in & has_words) for sized in others]
    further = [sized.at(rows) for sized, rows in zip(others, owners, strict=True)]
    return _keys(own.found, has_words, owners, further, recipe, salt)


def shingle_size(n_words: int, recipe: CurationRecipe) -> int:
    """Return the words per shingle of a text of `n_words` words."""
    if n_words < recipe.tiny_below:
        return 1
    return recipe.short_shingle if n_words < recipe.short_below else recipe.long_shingle


def shingle_sizes(n_words: I64, recipe: CurationRecipe) -> I64:
    """Return `shingle_size` of each of many lengths."""
    long_or_short = np.where(
        n_words < recipe.short_below, recipe.short_shingle, recipe.long_shingle
    )
    return np.where(n_words < recipe.tiny_below, 1, long_or_short)


@dataclass(frozen=True, slots=True)
class _Sized:
    """Signatures of the rows that have one more shingle size to be compared by."""

    is_in: NDArray[np.bool_]
    found: U32

    def at(self, rows: I64) -> U32:
        """Return the signatures of some of those rows."""
        found: U32 = self.found[np.cumsum(self.is_in)[rows] - 1]
        return found


def _signed_by_size(words: Ragged, n_untagged: int, recipe: CurationRecipe) -> list[_Sized]:
    """Return each row's signature by its own size, then by a shorter one's; answers are tagged."""
    lengths = words.lengths
    shortest = (lengths * recipe.near_duplicate_threshold).astype(np.int64)
    own, lower = shingle_sizes(lengths, recipe), shingle_sizes(shortest, recipe)
    everywhere = np.ones(len(lengths), dtype=bool)
    return [
        _signed(words, n_untagged, sizes, is_in, recipe.num_perm)
        for sizes, is_in in ((own, everywhere), (lower, lower != own))
    ]


def _signed(
    words: Ragged, n_untagged: int, sizes: I64, is_in: NDArray[np.bool_], num_perm: int
) -> _Sized:
    if is_in.all():
        return _Sized(is_in, signatures(_tagged_shingles(words, n_untagged, sizes), num_perm))
    rows = np.flatnonzero(is_in)
    n_untagged = int(np.searchsorted(rows, n_untagged))
    shingles = _tagged_shingles(words.take(rows), n_untagged, sizes[rows])
    return _Sized(is_in, signatures(shingles, num_perm))


def _tagged_shingles(words: Ragged, n_untagged: int, sizes: I64) -> Ragged:
    shingles = shingle_hashes(words, sizes)
    shingles.values[shingles.offsets[n_untagged] :] ^= _ANSWER_TAG
    return shingles


def _keys(
    own: U32,
    has_words: NDArray[np.bool_],
    owners: list[I64],
    further: list[U32],
    recipe: CurationRecipe,
    salt: np.uint64,
) -> Keys:
    found = np.concatenate((own, *further))
    salts = np.full(len(found), salt, dtype=np.uint64)
    keys = band_keys(found, recipe.bands, recipe.rows, salts)
    return Keys(keys[: len(own)], has_words, np.concatenate(owners), keys[len(own) :])
