"""A pick of some of many: unlike before alike, better before worse, and the same every time."""

import random

import numpy as np
import pytest

from curation.choice.diversity import VALUES, pick, sketches

WORDS = [f"word{i}" for i in range(2000)]


def texts_of_kinds(n_kinds, of_each, seed=0):
    """Texts of `n_kinds` templates, of which each has `of_each` variations."""
    rng = random.Random(seed)
    texts = []
    for _ in range(n_kinds):
        template = rng.choices(WORDS, k=50)
        for _ in range(of_each):
            changed = list(template)
            for place in rng.sample(range(50), 4):
                changed[place] = rng.choice(WORDS)
            texts.append(" ".join(changed))
    return texts


def test_a_sketch_agrees_as_often_as_the_texts_share_their_pairs():
    texts = texts_of_kinds(40, 2)
    found = sketches(texts)
    assert found.shape == (80, VALUES)
    pairs = [{*zip(t.split(), t.split()[1:], strict=False)} for t in texts]
    errors = []
    for i in range(0, 80, 2):
        exact = len(pairs[i] & pairs[i + 1]) / len(pairs[i] | pairs[i + 1])
        errors.append((found[i] == found[i + 1]).mean() - exact)
    assert abs(np.mean(errors)) < 0.05
    assert (found[0] == found[2]).mean() < 0.1
    assert (sketches(["Fix THE bug"]) == sketches(["fix the bug"])).all()


@pytest.mark.parametrize("texts", [[], [""], ["", "", "one"]])
def test_texts_without_words_are_no_trouble(texts):
    found = sketches(texts)
    assert len(pick(found, np.ones(len(texts)), 1)) == min(1, len(texts))


def test_of_equal_quality_every_kind_comes_before_any_twice():
    texts = texts_of_kinds(30, 20)
    picked = pick(sketches(texts), np.ones(len(texts)), 30)
    assert {index // 20 for index in picked} == set(range(30))


def test_a_rare_kind_is_not_drowned_by_a_common_one():
    texts = texts_of_kinds(1, 900) + texts_of_kinds(10, 1, seed=1)
    picked = pick(sketches(texts), np.ones(len(texts)), 50)
    assert set(range(900, 910)) <= set(picked)


def test_of_alike_texts_the_better_one_is_taken():
    texts = texts_of_kinds(20, 5)
    quality = np.array([0.5 + 0.1 * (index % 5) for index in range(100)])
    picked = pick(sketches(texts), quality, 20)
    assert {index // 5 for index in picked} == set(range(20))
    assert np.mean([quality[index] for index in picked]) > 0.85


def test_a_bad_one_is_not_taken_for_being_odd():
    texts = texts_of_kinds(1, 40) + texts_of_kinds(5, 1, seed=1)
    quality = np.array([1.0] * 40 + [0.01] * 5)
    assert max(pick(sketches(texts), quality, 20)) < 40


def test_the_pick_is_distinct_complete_and_the_same_again():
    found = sketches(texts_of_kinds(10, 10))
    quality = np.linspace(1, 0, 100)
    for count in (0, 1, 37, 99, 100, 200):
        picked = pick(found, quality, count)
        assert len(picked) == len(set(picked)) == min(count, 100)
        assert pick(found, quality, count) == picked


def test_a_million_of_one_text_are_picked_without_end():
    found = np.repeat(sketches(["the same text again"]), 20_000, axis=0)
    assert pick(found, np.ones(20_000), 15_000) == list(range(15_000))
