"""Recipes, quotas and splits: pure rules at their boundaries."""

from collections import Counter
from uuid import UUID

import pytest

from curation.choice.balance import Choice, allowances, over_quota
from curation.recipe import CurationRecipe
from curation.split import split_of, strictest
from foundation.errors import BadInput


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "best"},
        {"near_duplicate_threshold": 0},
        {"near_duplicate_threshold": 1.01},
        {"bands": 20},
        {"num_perm": 64},
        {"min_score": -0.1},
        {"min_rating": 0},
        {"train_share": 0.9},
        {"max_examples": 0},
        {"max_per_task_type": 2.5},
        {"tiny_below": 61},
        {"seed": True},
        {"batch_size": 0},
        {"colour": "red"},
        {"min_score": "high"},
    ],
)
def test_a_wrong_knob_is_named(wrong):
    with pytest.raises(BadInput, match="curation recipe"):
        CurationRecipe.from_json(wrong)


def test_a_recipe_survives_json_and_knows_what_matters():
    recipe = CurationRecipe(max_examples=5, trusted_sources=("test",))
    assert CurationRecipe.from_json(recipe.as_json()) == recipe
    assert CurationRecipe.from_json(None) == CurationRecipe()
    assert CurationRecipe(batch_size=9, overlap_s=1).fingerprint == CurationRecipe().fingerprint
    assert recipe.fingerprint != CurationRecipe().fingerprint


@pytest.mark.parametrize(
    ("counts", "knobs", "allowed"),
    [
        ({}, {"max_examples": 5}, {}),
        ({"a": 9, "b": 2}, {}, {"a": 9, "b": 2}),
        ({"a": 9, "b": 2}, {"max_per_task_type": 3}, {"a": 3, "b": 2}),
        ({"a": 9, "b": 3}, {"max_task_type_share": 0.75}, {"a": 9, "b": 3}),
        ({"a": 10, "b": 3}, {"max_task_type_share": 0.75}, {"a": 9, "b": 3}),
        ({"a": 10, "b": 3}, {"max_task_type_share": 0.1}, {"a": 3, "b": 3}),
        ({"a": 10}, {"max_task_type_share": 0.1}, {"a": 10}),
        ({"a": 6, "b": 3}, {"max_examples": 3}, {"a": 2, "b": 1}),
        ({"a": 5, "b": 5, "c": 5}, {"max_examples": 4}, {"a": 2, "b": 1, "c": 1}),
        ({"a": 5}, {"max_examples": 5}, {"a": 5}),
    ],
)
def test_allowances(counts, knobs, allowed):
    assert allowances(counts, CurationRecipe(**knobs)) == allowed


def test_quotas_leave_out_the_worst_then_by_lot():
    choices = [Choice(UUID(int=n), "a", 0.5 if n % 2 else 0.9) for n in range(20)]
    out = over_quota(choices, CurationRecipe(max_examples=14))
    assert len(out) == 6
    assert all(n.int % 2 for n in out)
    assert over_quota(reversed(choices), CurationRecipe(max_examples=14)) == out
    assert over_quota(choices, CurationRecipe(max_examples=14, seed=1)) != out
    control = over_quota(choices, CurationRecipe(max_examples=14, variant="unverified"))
    assert any(n.int % 2 == 0 for n in control), "the control does not look at scores"
    assert over_quota(choices, CurationRecipe()) == set()


def test_splits_have_their_shares_and_follow_the_key_alone():
    recipe = CurationRecipe()
    counts = Counter(split_of(f"task:{n}", recipe) for n in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.8, abs=0.01)
    assert counts["validation"] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert split_of("task:7", recipe) == split_of("task:7", CurationRecipe(min_score=0.9))
    moved = sum(
        split_of(f"k{n}", recipe) != split_of(f"k{n}", CurationRecipe(seed=1)) for n in range(100)
    )
    assert moved > 10


def test_the_strictest_split_wins_and_a_task_wins_over_all():
    recipe = CurationRecipe()
    by_split: dict[str, str] = {}
    for n in range(200):
        by_split.setdefault(split_of(f"example:{n}", recipe), f"example:{n}")
    assert strictest(by_split.values(), recipe) == by_split["test"]
    assert strictest([by_split["train"], by_split["validation"]], recipe) == by_split["validation"]
    assert strictest([*by_split.values(), "task:x"], recipe) == "task:x"
