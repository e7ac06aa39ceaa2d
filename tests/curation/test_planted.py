"""Planted copies are found as theory says, none falsely; a broken search is noticed."""

import random
from dataclasses import replace

import pytest

from curation.dedupe import planted
from curation.dedupe.planted import EDGES, plant_and_measure
from curation.normalize import Normalized
from curation.recipe import CurationRecipe

RECIPE = CurationRecipe()


def texts(n: int, n_words: int = 200) -> list[Normalized]:
    rng = random.Random(n)
    return [
        Normalized(
            f"write part {number} of the module",
            " ".join(f"w{rng.randrange(10**6)}" for _ in range(n_words)),
        )
        for number in range(n)
    ]


@pytest.mark.parametrize("recipe", [RECIPE, CurationRecipe(profile="high-recall")])
def test_recall_by_bin_is_that_of_theory(recipe):
    found = plant_and_measure(texts(300), recipe, n_planted=1500)
    assert found.n_false == 0
    assert [each.low for each in found.bins] == list(EDGES[:-1])
    for each in found.bins:
        middle = (each.low + each.high) / 2
        theory = 1 - (1 - middle**recipe.rows) ** recipe.bands
        assert each.n_planted > 50
        assert abs(each.n_met / each.n_planted - theory) < 0.1
        assert each.n_found == (each.n_met if each.low >= 0.8 else 0)
    assert found.recall > 0.97


def test_a_search_that_misses_or_merges_is_noticed(monkeypatch):
    monkeypatch.setattr(planted, "duplicate_similarity", lambda *_: 0.9)
    assert plant_and_measure(texts(50), RECIPE, n_planted=200).n_false > 20
    monkeypatch.setattr(planted, "duplicate_similarity", lambda *_: None)
    assert plant_and_measure(texts(50), RECIPE, n_planted=200).recall == 0


def test_nothing_is_planted_in_short_texts():
    found = plant_and_measure(texts(20, n_words=30), RECIPE)
    assert found.recall is None
    assert found.n_false == 0
    assert plant_and_measure([], RECIPE).as_json()["recall"] is None


def test_the_same_seed_plants_the_same():
    some = texts(40)
    assert plant_and_measure(some, RECIPE, seed=1) == plant_and_measure(some, RECIPE, seed=1)
    assert plant_and_measure(some, RECIPE, seed=1) != plant_and_measure(some, RECIPE, seed=2)
    lower = replace(RECIPE, near_duplicate_threshold=0.7)
    assert sum(b.n_found for b in plant_and_measure(some, lower).bins[:2]) > 0
