"""What is mixed into `train`: exact shares, the same draw every time, nothing gone or tested on."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_rows import store_example, store_version

from curation.choice.mix import amounts, mixed_in
from curation.dedupe.index import text_id_of
from curation.normalize import normalize
from curation.recipe import CurationRecipe
from foundation.chat import message
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id

GENERAL = CurationRecipe(general_dataset=str(new_id()))
REPLAY = CurationRecipe(replay_datasets=(str(new_id()),))


@pytest.mark.parametrize(
    ("recipe", "share", "n_own", "expected"),
    [
        (replace(REPLAY, replay_share=0.5), "replay", 50, 50),
        (replace(REPLAY, replay_share=0.2), "replay", 80, 20),
        (replace(REPLAY, replay_share=0.2), "replay", 0, 0),
        (replace(GENERAL, general_share=0.15), "general", 85, 15),
        (replace(GENERAL, general_share=0.1), "general", 1, 0),
        (replace(GENERAL, general_share=0.0), "general", 100, 0),
        (CurationRecipe(), "general", 100, 0),
    ],
)
def test_amounts(recipe, share, n_own, expected):
    wanted = amounts(recipe, n_own)
    assert getattr(wanted, share) == expected
    assert wanted.general + wanted.replay == expected


@given(
    n_own=st.integers(0, 100_000),
    general=st.sampled_from([0.0, 0.1, 0.15, 0.2, 0.33]),
    replay=st.sampled_from([0.0, 0.2, 0.29, 0.5]),
)
def test_both_shares_are_met_to_less_than_a_row(n_own, general, replay):
    recipe = replace(
        CurationRecipe(),
        general_dataset="g",
        replay_datasets=("r",),
        general_share=general,
        replay_share=replay,
    )
    wanted = amounts(recipe, n_own)
    total = n_own + wanted.general + wanted.replay
    assert abs(wanted.general - Fraction(str(general)) * total) < 1
    assert abs(wanted.replay - Fraction(str(replay)) * total) < 1


def store_many(session, n, word, **columns):
    return [store_example(session, f"{word} {i}", f"{word} said {i}", **columns) for i in range(n)]


def test_general_data_of_another_role_and_a_replay(session):
    general = store_version(session, store_many(session, 60, "talk", role="researcher"))
    first = store_version(
        session, store_many(session, 40, "old", status="dropped", drop_reason="over_quota")
    )
    recipe = CurationRecipe(
        general_dataset=str(general.id),
        general_share=0.1,
        replay_datasets=(str(first.id),),
        replay_share=0.2,
    )
    found = mixed_in(session, recipe, 70, role="coder")
    assert [(mixed.origin, len(mixed.row_ids)) for mixed in found] == [
        (f"general:{general.id}", 10),
        (f"replay:{first.id}", 20),
    ]
    assert all(mixed.row_ids == sorted(set(mixed.row_ids)) for mixed in found)
    assert mixed_in(session, recipe, 70, role="coder") == found
    assert mixed_in(session, replace(recipe, seed=1), 70, role="coder") != found
    larger = mixed_in(session, recipe, 140, role="coder")
    assert set(found[0].row_ids) < set(larger[0].row_ids), "a larger sample holds the smaller one"
    assert mixed_in(session, recipe, 0, role="coder") == []


def test_a_source_that_ends_gives_what_it_has(session):
    general = store_version(session, store_many(session, 3, "talk", role="tester"))
    (mixed,) = mixed_in(
        session, replace(GENERAL, general_dataset=str(general.id)), 850, role="coder"
    )
    assert len(mixed.row_ids) == 3


def test_only_a_versions_own_training_rows_are_taken(session):
    own = store_many(session, 4, "own", role="researcher")
    held_out = store_many(session, 4, "held out", role="researcher", split="test")
    general = store_version(session, [*own, *held_out])
    borrowed = store_many(session, 4, "borrowed", role="tester")
    store_version(session, borrowed, role="tester", origin="general:x")
    recipe = replace(GENERAL, general_dataset=str(general.id), general_share=0.5)
    (mixed,) = mixed_in(session, recipe, 100, role="coder")
    assert set(mixed.row_ids) == {row.id for row in own}
    tester = store_version(session, borrowed, number=2, role="tester", origin="general:x")
    assert mixed_in(session, replace(recipe, general_dataset=str(tester.id)), 9, role="coder") == []


def test_what_is_gone_ruled_out_or_tested_on_stays_out(session):
    episode, task = new_id(), "task:sort"
    rows = store_many(session, 6, "talk", role="researcher")
    store_example(session, "x", "y", split="test", episode_id=episode)
    store_example(session, "x2", "y2", split="validation", split_key=task)
    store_example(session, "x3", "y3", interaction_id=rows[4].interaction_id, variant="unverified")
    general = store_version(session, rows)
    rows[0].episode_id, rows[1].split_key = episode, task
    rows[2].status, rows[2].drop_reason = "dropped", "contaminated"
    rows[4].status, rows[4].drop_reason = "dropped", "over_quota"
    session.delete(rows[3])
    session.flush()
    recipe = replace(GENERAL, general_dataset=str(general.id), general_share=0.5)
    (mixed,) = mixed_in(session, recipe, 100, role="coder")
    assert set(mixed.row_ids) == {rows[4].id, rows[5].id}
    control = mixed_in(session, replace(recipe, variant="unverified"), 100, role="coder")
    assert rows[4].id not in control[0].row_ids, "it has this one itself"


def test_a_row_of_two_replayed_versions_is_taken_once(session):
    rows = store_many(session, 10, "old", status="dropped", drop_reason="over_quota")
    first = store_version(session, rows[:6])
    second = store_version(session, rows, number=2)
    recipe = replace(REPLAY, replay_share=0.5, replay_datasets=(str(second.id), str(first.id)))
    (mixed,) = mixed_in(session, recipe, 10, role="coder")
    assert (mixed.dataset_id, set(mixed.row_ids)) == (second.id, {row.id for row in rows})


def test_a_wrong_source_is_named(session):
    with pytest.raises(NotFound, match="dataset to mix in"):
        mixed_in(session, GENERAL, 10)
    with pytest.raises(BadInput, match="'yesterday'"):
        mixed_in(session, replace(REPLAY, replay_datasets=("yesterday",)), 10)
    pairs = store_version(session, store_many(session, 1, "p"), kind="preference")
    with pytest.raises(BadInput, match="'preference'"):
        mixed_in(session, replace(REPLAY, replay_datasets=(str(pairs.id),)), 10)


def test_a_prompt_that_the_role_tests_on_is_not_taught_in_another_roles_words(session):
    rows = store_many(session, 5, "talk", role="researcher")
    general = store_version(session, rows)
    compared = normalize([message("user", " TALK  3")], "").prompt
    number = text_id_of("coder", "default", "prompt", compared)
    store_example(session, "Talk 3", "y", split="test", prompt_text_id=number)
    recipe = replace(GENERAL, general_dataset=str(general.id), general_share=0.5)
    (mixed,) = mixed_in(session, recipe, 4, role="coder")
    assert set(mixed.row_ids) == {row.id for row in rows} - {rows[3].id}, "still four of them"
