"""Lists of texts in memory: the same repeats by our keys and by datasketch's."""

import random
from dataclasses import replace

import pytest

from curation.dedupe.adhoc import DATASKETCH, ENGINES, NUMPY, Repeat, dedupe_texts
from curation.recipe import CurationRecipe
from foundation.errors import BadInput


def words(seed: int, n: int = 200) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(10**6)}" for _ in range(n)]


def edited(text: str, n: int, seed: int) -> str:
    rng = random.Random(seed)
    found = text.split()
    for place in rng.sample(range(len(found)), n):
        found[place] = f"edit{rng.randrange(10**6)}"
    return " ".join(found)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_repeats_the_first_kept_one(engine):
    base, other = " ".join(words(1)), " ".join(words(2))
    near = edited(base, 1, seed=3)
    texts = [base, other, near, base.upper(), f"{near}  ", edited(base, 20, seed=4), "", "!!", "!!"]
    found = dedupe_texts(texts, engine=engine)
    assert found[2].of == 0
    assert 0.9 < found[2].similarity < 1
    assert not found[2].is_exact
    assert found[3] == Repeat(0, 1.0, is_exact=True)
    assert found[4] == found[2], "a copy of a repeat repeats the same"
    assert found[8] == Repeat(7, 1.0, is_exact=True)
    assert sorted(found) == [2, 3, 4, 8]


@pytest.mark.parametrize("engine", ENGINES)
def test_pairs_repeat_by_prompt_and_answer(engine):
    asked, answer = " ".join(words(5)), " ".join(words(6))
    texts = [(asked, answer), (" ".join(words(7)), answer), (asked, " ".join(words(8)))]
    assert dedupe_texts(texts, engine=engine) == {}
    assert dedupe_texts([*texts, (asked, edited(answer, 1, 9))], engine=engine)[3].of == 0
    assert dedupe_texts([], engine=engine) == {}


def test_both_engines_find_the_same_beyond_doubt():
    rng = random.Random(0)
    bases = [" ".join(words(seed)) for seed in range(150)]
    texts = [*bases, *(edited(rng.choice(bases), rng.randrange(3), n) for n in range(150))]
    ours, theirs = (dedupe_texts(texts, engine=engine) for engine in (NUMPY, DATASKETCH))
    sure = {index for index, repeat in (ours | theirs).items() if repeat.similarity > 0.9}
    assert len(sure) > 100
    assert {i: ours[i] for i in sure} == {i: theirs[i] for i in sure}


def test_a_text_near_a_boundary_of_lengths_is_found():
    for n_words in (9, 10, 11, 58, 59, 60, 61, 70):
        text = " ".join(words(n_words, n_words))
        answer = " ".join(words(1000))
        assert dedupe_texts([(text, answer), (f"{text} thanks", answer)]), n_words


def test_many_copies_of_one_text_cost_no_comparisons():
    texts = [" ".join(words(1))] * 3000 + [f" {' '.join(words(1))}\n"] * 3000
    found = dedupe_texts(texts)
    assert len(found) == 5999
    assert all(repeat == Repeat(0, 1.0, is_exact=True) for repeat in found.values())


def test_the_recipe_says_what_a_repeat_is():
    base = " ".join(words(1))
    texts = [base, edited(base, 6, seed=2)]
    assert dedupe_texts(texts) == {}
    low = replace(CurationRecipe(), near_duplicate_threshold=0.5, profile="high-recall")
    assert dedupe_texts(texts, low)[1].of == 0


def test_an_unknown_engine_is_refused():
    with pytest.raises(BadInput, match="engine"):
        dedupe_texts([], engine="spark")
