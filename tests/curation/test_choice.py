"""Recipes, quotas and splits: rules at their boundaries."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import col, select
from stored_rows import store_example, store_version

from curation.choice.balance import Choice, allowances, cell_of
from curation.choice.choose import choose, over_quota
from curation.choice.sources import over_source
from curation.recipe import CurationRecipe
from curation.split import split_of, strictest
from curation.tables import Example
from foundation.errors import BadInput


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "best"},
        {"near_duplicate_threshold": 0},
        {"near_duplicate_threshold": 1.01},
        {"profile": "lucky"},
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
        {"max_source_share": 0},
        {"max_source_share": 1.5},
    ],
)
def test_a_wrong_knob_is_named(wrong):
    with pytest.raises(BadInput, match="curation recipe"):
        CurationRecipe.from_json(wrong)


def test_a_recipe_survives_json_and_knows_what_matters():
    recipe = CurationRecipe(max_examples=5, trusted_sources=("test",))
    assert CurationRecipe.from_json(recipe.as_json()) == recipe
    assert CurationRecipe.from_json(None) == CurationRecipe()
    assert CurationRecipe(batch_size=9).fingerprint == CurationRecipe().fingerprint
    assert recipe.fingerprint != CurationRecipe().fingerprint
    capped = CurationRecipe(max_source_share=0.5)
    assert capped.fingerprint != CurationRecipe().fingerprint
    assert capped.judging_fingerprint == CurationRecipe().judging_fingerprint


def cells(counts):
    """Cells of the default recipe, which balances by task type."""
    return {(kind, kind): n for kind, n in counts.items()}


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
        ({"a": 100, "b": 4}, {"max_examples": 12, "balance_weight": "sqrt"}, {"a": 10, "b": 2}),
        ({"a": 100, "b": 4}, {"max_examples": 6, "balance_weight": "equal"}, {"a": 3, "b": 3}),
        ({"a": 100, "b": 4}, {"max_examples": 20, "balance_weight": "equal"}, {"a": 16, "b": 4}),
        # Both at once: the cap holds of what is let in, not of what there was.
        ({"a": 90, "b": 10}, {"max_examples": 8, "max_task_type_share": 0.5}, {"a": 4, "b": 4}),
        (
            {"a": 71, "b": 29},
            {"max_examples": 100, "max_task_type_share": 0.71},
            {"a": 71, "b": 29},
        ),
        ({"a": 2, "b": 1}, {"max_examples": 1, "max_task_type_share": 0.5}, {"a": 1, "b": 0}),
    ],
)
def test_allowances(counts, knobs, allowed):
    assert allowances(cells(counts), CurationRecipe(**knobs)) == cells(allowed)


def test_a_total_is_spread_over_several_things_jointly():
    counts = {("a", "easy", "x"): 800, ("a", "hard", "x"): 8, ("b", "easy", "y"): 100}
    recipe = CurationRecipe(balance_by=("difficulty", "project"), max_examples=24)
    assert allowances(counts, replace(recipe, balance_weight="equal")) == dict.fromkeys(counts, 8)
    natural = allowances(counts, recipe)
    assert natural == {("a", "easy", "x"): 21, ("a", "hard", "x"): 0, ("b", "easy", "y"): 3}
    capped = replace(recipe, balance_weight="equal", max_per_task_type=10)
    by_cell = allowances(counts, capped)
    assert by_cell[("a", "easy", "x")] + by_cell[("a", "hard", "x")] == 10
    assert by_cell[("b", "easy", "y")] == 10


@given(
    counts=st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), st.integers(1, 400), min_size=1
    ),
    total=st.one_of(st.none(), st.integers(1, 600)),
    share=st.sampled_from([0.05, 0.29, 0.34, 0.5, 0.71, 1.0]),
    most=st.one_of(st.none(), st.integers(1, 300)),
    weight=st.sampled_from(["natural", "sqrt", "equal"]),
)
def test_no_cap_is_ever_passed_and_no_row_is_made_up(counts, total, share, most, weight):
    recipe = CurationRecipe(
        balance_by=("project",),
        max_examples=total,
        max_task_type_share=share,
        max_per_task_type=most,
        balance_weight=weight,
    )
    allowed = allowances(counts, recipe)
    assert allowed.keys() == counts.keys()
    assert all(0 <= allowed[cell] <= counts[cell] for cell in counts)
    let_in = sum(allowed.values())
    assert let_in >= 1
    assert total is None or let_in <= total
    kinds = {cell[0] for cell in counts}
    for kind in kinds:
        own = sum(n for cell, n in allowed.items() if cell[0] == kind)
        assert most is None or own <= most
        assert own <= max(1, Fraction(str(share)) * let_in, Fraction(let_in, len(kinds)))


def test_cells_are_months_of_utc_and_name_what_is_unknown():
    recipe = CurationRecipe(balance_by=("difficulty", "project", "month"))
    late = datetime(2026, 3, 31, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    one = Choice(UUID(int=1), "fix", "hard", "shop", late)
    assert cell_of(one, recipe) == ("fix", "hard", "shop", "2026-04")
    assert cell_of(Choice(UUID(int=2)), recipe) == ("untyped", "unknown", "default", "undated")


def store_many(session, n, **columns):
    return [
        store_example(
            session, f"write number {i}", f"answer {i}", score=0.5 if i % 2 else 0.9, **columns
        )
        for i in range(n)
    ]


def statuses(session):
    session.expire_all()
    rows = session.exec(select(Example).order_by(col(Example.id))).all()
    return [(row.status, row.drop_reason) for row in rows]


@pytest.mark.parametrize("diverse", [True, False])
def test_quotas_leave_out_the_worst_and_give_them_back(session, diverse):
    rows = store_many(session, 20)
    recipe = CurationRecipe(max_examples=14, diverse=diverse)
    counts = choose(session, "coder", recipe)
    assert counts == {
        "candidates": 20,
        "chosen": 14,
        "left_out": 6,
        "replayed": 0,
        "newly_left_out": 6,
        "taken_back": 0,
    }
    out = [i for i, (status, _) in enumerate(statuses(session)) if status == "dropped"]
    assert all(i % 2 for i in out)
    assert {reason for _, reason in statuses(session)} == {None, "over_quota"}
    assert choose(session, "coder", recipe)["newly_left_out"] == 0, "the same choice again"
    more = choose(session, "coder", replace(recipe, max_examples=15))
    assert (more["taken_back"], more["newly_left_out"]) == (1, 0)
    assert choose(session, "coder", CurationRecipe())["taken_back"] == 5
    assert {row.id for row in rows} == {
        row.id for row in session.exec(select(Example).where(Example.status == "kept"))
    }


def test_the_lot_is_the_seeds_and_the_control_looks_at_no_score(session):
    rows = store_many(session, 40)
    choices = [Choice(row.id, score=row.score) for row in rows]
    recipe = CurationRecipe(max_examples=10, diverse=False)
    out = over_quota(session, choices, recipe)
    assert over_quota(session, reversed(choices), recipe) == out
    assert over_quota(session, choices, replace(recipe, seed=1)) != out
    best = {row.id for row in rows if row.score == 0.9}
    assert len(best - out) == 10
    control = over_quota(session, choices, replace(recipe, variant="unverified"))
    assert len(best - control) < 10


@pytest.mark.parametrize(
    ("keys", "share", "left"),
    [
        ("....aaaaaaaa", 0.5, "....aaaa"),
        ("....aaaaaaaa", 0.34, "....aa"),
        ("aaaaaaaa....", 0.29, "a...."),
        ("..aabb", 0.34, "..aabb"),
        ("aaaabbbbb.", 0.5, "aaaabbbbb."),
        ("aaaabbbbbbb.", 0.5, "aaaabbbbb."),
        ("aaa", 0.5, ""),
        ("...", 0.1, "..."),
        ("", 0.5, ""),
    ],
)
def test_no_key_has_more_than_its_share_of_what_is_left(keys, share, left):
    ids = [UUID(int=number + 1) for number in range(len(keys))]
    by_key = {one: key for one, key in zip(ids, keys, strict=True) if key != "."}
    out = over_source(ids, by_key, share)
    assert "".join(k for i, k in zip(ids, keys, strict=True) if i not in out) == left
    assert not out or max(out) == ids[keys.rindex(by_key[max(out)])], "the last ones go"


def test_other_roles_variants_and_dropped_rows_are_left_alone(session):
    store_example(session, "p", "a", role="tester")
    store_example(session, "p", "b", variant="unverified")
    store_example(session, "p", "c", outcome=False)
    store_many(session, 3)
    choose(session, "coder", CurationRecipe(max_examples=1))
    assert [status for status, _ in statuses(session)[:3]] == ["kept", "kept", "dropped"]
    assert choose(session, "reviewer", CurationRecipe(max_examples=1))["candidates"] == 0


def test_what_is_replayed_is_left_out_of_the_roles_own_rows(session):
    old, new = store_many(session, 6), store_many(session, 3)
    tested = store_example(session, "held out", "a", split="test")
    first = store_version(session, [*old, tested])
    recipe = CurationRecipe(replay_datasets=(str(first.id),))
    counts = choose(session, "coder", recipe)
    assert (counts["replayed"], counts["chosen"]) == (6, 4)
    kept = session.exec(select(Example.id).where(Example.status == "kept")).all()
    assert set(kept) == {tested.id, *(row.id for row in new)}
    for row in new:
        session.delete(row)
    session.flush()
    assert choose(session, "coder", recipe)["replayed"] == 0, "never an empty train"


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


def test_the_strictest_split_wins_and_of_equal_ones_a_task():
    recipe = CurationRecipe()
    by_split: dict[str, str] = {}
    for n in range(200):
        by_split.setdefault(split_of(f"example:{n}", recipe), f"example:{n}")
    assert strictest(by_split.values(), recipe) == by_split["test"]
    assert strictest([by_split["train"], by_split["validation"]], recipe) == by_split["validation"]
    task = next(f"task:{n}" for n in range(200) if split_of(f"task:{n}", recipe) == "test")
    assert strictest([*by_split.values(), task], recipe) == task
    easy = next(f"task:{n}" for n in range(200) if split_of(f"task:{n}", recipe) == "train")
    assert strictest([*by_split.values(), easy], recipe) == by_split["test"]
