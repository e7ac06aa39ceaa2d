"""How surely repeats are found in given texts: copies with a known likeness are planted and sought.

A copy has some words of its answer replaced, added or left out. Its true likeness is counted here
on plain sets of words, with none of the code that is under test.
"""

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from curation.dedupe.compare import Fingerprint, duplicate_similarity, fingerprints
from curation.dedupe.minhash import salt_of
from curation.normalize import Normalized
from curation.recipe import CurationRecipe

EDGES: Final = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Of the bins of Jaccard, each from its lower edge to below its upper one; 1.0 is in the last."""
_WORD: Final = re.compile(r"[0-9A-Za-z_\u0080-\U0010ffff]+")
_LEAST_TARGET: Final = 0.68


@dataclass(frozen=True, slots=True)
class Bin:
    """Planted copies whose true Jaccard lies in [low, high)."""

    low: float
    high: float
    n_planted: int
    n_met: int
    """Copies that share a band with their original."""
    n_found: int
    """Copies that were called repeats of their original, after verification."""

    @property
    def recall(self) -> float | None:
        """Share found, 0-1; None if nothing was planted."""
        return self.n_found / self.n_planted if self.n_planted else None


@dataclass(frozen=True, slots=True)
class Planted:
    """What a search for planted copies found."""

    bins: tuple[Bin, ...]
    n_false: int
    """Pairs called repeats whose true Jaccard, of prompts or of answers, is below the threshold."""
    threshold: float

    @property
    def recall(self) -> float | None:
        """Share found of the copies at or above the threshold; None if there was none."""
        above = [each for each in self.bins if each.low >= self.threshold]
        n_planted = sum(each.n_planted for each in above)
        return sum(each.n_found for each in above) / n_planted if n_planted else None

    def as_json(self) -> dict[str, Any]:
        """Return it for a dataset's card."""
        return {
            "recall": self.recall,
            "n_false": self.n_false,
            "bins": [
                {
                    "low": each.low,
                    "high": each.high,
                    "n_planted": each.n_planted,
                    "n_met": each.n_met,
                    "n_found": each.n_found,
                    "recall": each.recall,
                }
                for each in self.bins
            ],
        }


def plant_and_measure(
    texts: Sequence[Normalized], recipe: CurationRecipe, *, seed: int = 0, n_planted: int = 500
) -> Planted:
    """Plant edited copies among texts and return how many of them are found, by true Jaccard.

    Copies are made of texts whose answers have `recipe.short_below` words or more; shorter ones are
    compared to the word, so that an edited copy of one is no repeat. Without any, all bins are
    empty.
    """
    rng = random.Random(seed)
    long = [text for text in texts if len(_words(text.answer)) >= recipe.short_below]
    originals = [rng.choice(long) for _ in range(n_planted)] if long else []
    vocabulary = sorted({word for text in long[:1000] for word in _words(text.answer)})
    copies = [_edited(text, vocabulary, recipe, rng) for text in originals]
    made = fingerprints([*originals, *copies, *texts], recipe, salt_of("planted"))
    pairs = list(zip(made, made[len(originals) :], strict=False))[: len(originals)]
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one, copy in pairs:
        bin_number = _bin_of(_true_jaccard(one, copy, recipe))
        if bin_number is not None:
            met = bool(set(one.keys) & set(copy.keys))
            found = met and duplicate_similarity(one, copy, recipe) is not None
            for place, flag in enumerate((True, met, found)):
                counts[bin_number][place] += flag
    bins = tuple(
        Bin(low, high, *counts[number])
        for number, (low, high) in enumerate(zip(EDGES, EDGES[1:], strict=False))
    )
    return Planted(bins, _n_false(made, recipe), recipe.near_duplicate_threshold)


def _edited(
    text: Normalized, vocabulary: Sequence[str], recipe: CurationRecipe, rng: random.Random
) -> Normalized:
    """Return a copy with about as many words changed as bring it to a likeness drawn evenly."""
    spans = [found.span() for found in _WORD.finditer(text.answer)]
    target = rng.uniform(_LEAST_TARGET, 1)
    size = recipe.long_shingle
    expected = (len(spans) - size + 1) * (1 - target) / (size * (1 + target))
    n_edits = int(expected + rng.random())
    answer = text.answer
    for start, stop in sorted(rng.sample(spans, min(n_edits, len(spans))), reverse=True):
        word, other = answer[start:stop], rng.choice(vocabulary)
        answer = answer[:start] + rng.choice((other, f"{word} {other}", "")) + answer[stop:]
    return Normalized(text.prompt, answer)


def _n_false(made: Sequence[Fingerprint], recipe: CurationRecipe) -> int:
    """Return how many pairs that meet in a bucket and pass verification should not have passed."""
    buckets: dict[int, list[int]] = defaultdict(list)
    for number, one in enumerate(made):
        for key in set(one.keys):
            buckets[key].append(number)
    pairs = {
        (one, other)
        for members in buckets.values()
        for place, other in enumerate(members)
        for one in members[: min(place, recipe.hot_bucket_cap)]
    }
    return sum(
        duplicate_similarity(made[one], made[other], recipe) is not None
        and _true_jaccard(made[one], made[other], recipe) < recipe.near_duplicate_threshold
        for one, other in pairs
    )


def _true_jaccard(one: Fingerprint, other: Fingerprint, recipe: CurationRecipe) -> float:
    """Return the smaller Jaccard of prompts and of answers, counted on plain tuples of words."""
    return min(
        _jaccard(one.prompt.text, other.prompt.text, recipe),
        _jaccard(one.answer.text, other.answer.text, recipe),
    )


def _jaccard(one: str, other: str, recipe: CurationRecipe) -> float:
    ours, theirs = _words(one), _words(other)
    n_words = min(len(ours), len(theirs))
    size = recipe.long_shingle
    if n_words < recipe.short_below:
        size = 1 if n_words < recipe.tiny_below else recipe.short_shingle
    sets = [
        {tuple(words[i : i + size]) for i in range(max(len(words) - size + 1, min(len(words), 1)))}
        for words in (ours, theirs)
    ]
    together = len(sets[0] | sets[1])
    return len(sets[0] & sets[1]) / together if together else 1.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _bin_of(similarity: float) -> int | None:
    for number, (low, high) in enumerate(zip(EDGES, EDGES[1:], strict=False)):
        if low <= similarity < high or (similarity == high == EDGES[-1]):
            return number
    return None
