"""What counts as a repeat: short texts to the word, long ones by Jaccard, never by chance."""

import random

import numpy as np
import pytest

from curation.dedupe.compare import duplicate_similarity, fingerprints
from curation.normalize import Normalized, normalize
from curation.recipe import CurationRecipe
from foundation.chat import message

RECIPE = CurationRecipe()
SALT = np.uint64(1)
ASK = "Write a function f(items) that returns the sum of the squares of the numbers above 3."
CODE = "def f(items):\n    return sum(x * x for x in items if x > 3)"


def similarity(one: tuple[str, str], other: tuple[str, str]) -> float | None:
    """Similarity of two (prompt, answer) pairs, None unless the index would also have found it."""
    made = fingerprints([normalize([message("user", p)], a) for p, a in (one, other)], RECIPE, SALT)
    found = duplicate_similarity(made[0], made[1], RECIPE)
    assert found == duplicate_similarity(made[1], made[0], RECIPE)
    if found is not None and found > 0.9:
        assert set(made[0].keys) & set(made[1].keys)
    return found


@pytest.mark.parametrize(
    "prompt",
    [
        ASK + " Thanks!",
        "Hello. " + ASK,
        ASK.rstrip(".") + ", please.",
        ASK.replace(". ", ".  ").upper(),
    ],
)
def test_a_trivial_edit_of_the_prompt_is_a_repeat(prompt):
    assert similarity((ASK, CODE), (prompt, CODE)) >= 0.8


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (ASK, CODE.replace("> 3", "> 4")),
        (ASK, CODE.replace(">", "<")),
        (ASK, CODE.replace("sum", "max")),
        (ASK, CODE.replace("x", "v")),
        (ASK.replace("3", "4"), CODE),
        (ASK.replace("sum", "product"), CODE),
        (ASK.replace("above", "below"), CODE),
    ],
)
def test_a_change_of_meaning_in_a_short_text_is_none(prompt, answer):
    assert similarity((ASK, CODE), (prompt, answer)) is None


def test_moved_words_and_moved_lines_are_not_repeats():
    assert similarity(("Take a from b.", "b - a"), ("Take b from a.", "b - a")) is None
    assert similarity(("Take a from b.", "b - a"), ("Take a from b.", "a - b")) is None
    inside = "def f(x):\n    for y in x:\n        t = y\n        return t"
    outside = "def f(x):\n    for y in x:\n        t = y\n    return t"
    assert similarity((ASK, inside), (ASK, outside)) is None
    assert similarity((ASK, inside), (ASK, inside.replace("    ", "  "))) == 1.0


def long_text(seed: int, n_words: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(10**6)}" for _ in range(n_words)]


@pytest.mark.parametrize("n_words", [9, 10, 11, 12, 58, 59, 60, 61, 64, 70, 200])
def test_a_word_more_or_less_is_found_at_every_length(n_words):
    words = long_text(1, n_words)
    one, other = " ".join(words), " ".join([*words, "thanks"])
    answer = " ".join(long_text(2, n_words))
    assert similarity((one, answer), (other, answer)) >= 0.8


def test_long_texts_are_repeats_by_jaccard_of_both_parts():
    words = long_text(3, 200)
    edited = [*words]
    edited[100] = "changed"
    far = [word if n % 10 else "changed" for n, word in enumerate(words)]
    prompt, answer = " ".join(long_text(4, 200)), " ".join(words)
    assert 0.9 < similarity((prompt, answer), (prompt, " ".join(edited))) < 1
    assert similarity((prompt, answer), (prompt, " ".join(far))) is None
    assert similarity((prompt, "correct"), (prompt, "wrong: map")) is None, "the answer counts"


def test_texts_without_words_have_no_keys_and_break_nothing():
    made = fingerprints(
        [Normalized("", ""), Normalized("!!", "??"), Normalized("a", "")], RECIPE, SALT
    )
    assert [bool(one.keys) for one in made] == [False, False, True]
    assert fingerprints([], RECIPE, SALT) == []


@pytest.mark.parametrize("boundary", [RECIPE.tiny_below, RECIPE.short_below])
def test_a_text_just_over_a_boundary_has_the_keys_of_shorter_repeats_too(boundary):
    words = [f"w{number}" for number in range(2 * boundary)]
    lengths = (boundary - 1, boundary, round(boundary / RECIPE.near_duplicate_threshold) + 2)
    texts = [Normalized(" ".join(words[:length]), "") for length in lengths]
    shorter, over, longer = fingerprints(texts, RECIPE, SALT)
    assert len(shorter.keys) == len(longer.keys) == RECIPE.bands, "none shorter has another size"
    assert len(over.keys) == 2 * RECIPE.bands
    assert set(shorter.keys) & set(over.keys[RECIPE.bands :])
    assert not set(shorter.keys) & set(over.keys[: RECIPE.bands])
