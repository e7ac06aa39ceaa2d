"""Splits stay free of leaks while the data grows, and the proof would see a leak."""

import random
from typing import Any
from uuid import UUID

import pytest
from indexed import Shelf, words
from published import published
from sqlalchemy import text
from sqlmodel import Session

from curation.boilerplate import NO_TEMPLATES
from curation.groups import Groups, Newcomer, Ties, rename, tie
from curation.proof import prove_no_leak, prove_whole
from curation.recipe import CurationRecipe
from curation.split import group_split_key, split_of, strictest, task_split_key
from curation.tables import Dataset
from foundation.ids import new_id

HALVES = CurationRecipe(train_share=0.5, validation_share=0.0, test_share=0.5)


def prompt(seed: object, n: int = 40) -> str:
    return " ".join(words(n, seed, "p"))


def answer(seed: object) -> str:
    return " ".join(words(70, seed, "a"))


def splits(shelf: Shelf) -> dict[UUID, str]:
    return {e.id: e.split for e in shelf.examples() if e.status == "kept"}


def assert_clean(proof: dict[str, Any]) -> None:
    assert {k: v for k, v in proof.items() if k.startswith("cross_split") and v} == {}
    assert proof["checked_all"]


@pytest.fixture
def shelf(session: Session) -> Shelf:
    return Shelf(session, recipe=HALVES)


def test_like_prompts_share_a_split_and_others_are_spread(shelf):
    ids = [
        [
            shelf.put(prompt(n), answer((n, 0))),
            shelf.put("Hello. " + prompt(n), answer((n, 1))),
            shelf.put(prompt(n), answer((n, 2))),
        ]
        for n in range(24)
    ]
    shelf.work()
    found = splits(shelf)
    assert len(found) == 72
    assert all(len({found[i] for i in group}) == 1 for group in ids)
    assert len({found[group[0]] for group in ids}) == 2
    keys = {e.split_key for e in shelf.examples()}
    assert len(keys) == 24
    assert all(key.startswith("group:default/") for key in keys)


def test_the_project_is_in_the_hash_and_may_hold_together(session):
    one = new_id()
    assert group_split_key("a", one) != group_split_key("b", one)
    shelf = Shelf(session, recipe=CurationRecipe(keep_together=("episode", "project")))
    ids = [[shelf.put(prompt((p, n)), answer((p, n)), project=p) for n in range(3)] for p in "abc"]
    shelf.work()
    more = [shelf.put(prompt((p, 9)), answer((p, 9)), project=p) for p in "abc"]
    shelf.work()
    keys = {e.id: e.split_key for e in shelf.examples()}
    for group, late in zip(ids, more, strict=True):
        assert len({keys[i] for i in [*group, late]}) == 1
    assert len(set(keys.values())) == 3


def test_an_episode_is_in_one_split_only_if_it_is_to_be(session):
    for together, n_keys in ((("episode",), 1), ((), 4)):
        shelf = Shelf(session, f"role{n_keys}", CurationRecipe(keep_together=together))
        episode = new_id()
        for number in range(4):
            shelf.put(prompt(number), answer(number), episode_id=episode)
            if number == 1:
                shelf.work()
        shelf.work()
        assert len({e.split_key for e in shelf.examples()}) == n_keys


def test_growth_moves_nothing_that_no_newcomer_ties(shelf):
    for number in range(20):
        shelf.put(prompt(number), answer(number))
    shelf.work()
    before = splits(shelf)
    for number in range(20, 60):
        shelf.put(prompt(number), answer(number))
    shelf.work()
    assert before.items() <= splits(shelf).items()


def test_the_stricter_split_wins_when_groups_meet(shelf):
    ids = [shelf.put(prompt(n), answer(n), episode_id=new_id()) for n in range(24)]
    shelf.work()
    before = splits(shelf)
    tested = next(i for i in ids if before[i] == "test")
    trained = next(i for i in ids if before[i] == "train")
    asked = shelf.example(trained).prompt[0]["content"]
    tying = shelf.put(asked, answer("tying"), episode_id=shelf.example(tested).episode_id)
    shelf.work()
    after = splits(shelf)
    assert after[tested] == after[trained] == after[tying] == "test"
    assert {i: after[i] for i in ids if i != trained} == {i: before[i] for i in ids if i != trained}


def test_what_was_tested_on_ties_even_when_it_is_no_longer_kept(shelf):
    ids = [shelf.put(prompt(n), answer(n), (1,)) for n in range(24)]
    shelf.work()
    before = splits(shelf)
    tested = next(i for i in ids if before[i] == "test")
    row = shelf.example(tested)
    better = shelf.put(row.prompt[0]["content"], row.answer, (2,))
    shelf.work()
    assert shelf.example(tested).status == "dropped"
    assert shelf.example(better).split == "test"


def test_named_tasks_may_be_alike_but_not_equal(shelf):
    near = ["Hello. " + prompt("x"), prompt("x"), prompt("x") + " Thanks."]
    names = [task_split_key(f"t{n}") for n in range(3)]
    for asked, name in zip(near, names, strict=True):
        shelf.put(asked, answer(name), split_key=name)
    shelf.work()
    assert [e.split_key for e in shelf.examples()] == names
    assert [e.split for e in shelf.examples()] == [split_of(name, HALVES) for name in names]
    shelf.put(near[0], answer("more"), split_key=task_split_key("t9"))
    shelf.work()
    keys = [e.split_key for e in shelf.examples()]
    assert keys[0] == keys[3]


def test_tying_is_pure_and_names_groups_by_what_was_there():
    recipe = HALVES
    olds = sorted((f"group:default/{n}" for n in range(9)), key=lambda k: split_of(k, recipe))
    tested = olds[0]
    assert strictest(olds, recipe) == min(k for k in olds if split_of(k, recipe) == "test")
    first, second = (Newcomer(UUID(int=n), "default", None, n, "", None) for n in (1, 2))
    ties = Ties({1: {first.label, tested}, 2: {second.label}}, {}, {}, {}, [(1, 2)])
    groups = tie([first, second], ties)
    assert rename(groups, [first, second], recipe) == {
        first.label: tested,
        second.label: tested,
    }
    alone = tie([first, second], Ties({1: {first.label}, 2: {second.label}}, {}, {}, {}, []))
    assert rename(alone, [first, second], recipe) == {}
    assert Groups().members() == []


def test_no_leak_after_ten_increments_and_the_proof_of_each_builds_on_the_last(session):
    recipe = CurationRecipe(train_share=0.4, validation_share=0.3, test_share=0.3)
    shelf = Shelf(session, recipe=recipe)
    draw = random.Random(4)
    versions: list[Dataset] = []
    episodes = [new_id() for _ in range(60)]
    for step in range(10):
        for number in range(12):
            about = draw.randrange(60)
            asked = draw.choice(["", "Hello. "]) + prompt(about) + draw.choice(["", " Thanks!"])
            shelf.put(
                asked,
                answer(about) + draw.choice(["", " end"])
                if draw.random() < 0.3
                else answer((step, number)),
                (draw.random(),),
                episode_id=draw.choice(episodes) if draw.random() < 0.2 else None,
            )
        shelf.work()
        dataset, _ = published(session, recipe)
        versions.append(dataset)
        assert_clean(dataset.card["leak_proof"])
        assert_clean(prove_whole(session, dataset))
    proofs = [dataset.card["leak_proof"] for dataset in versions]
    assert proofs[0]["built_on"] is None
    assert proofs[-1]["built_on"] == str(versions[-2].id)
    assert proofs[-1]["checked_rows"] < prove_whole(session, versions[-1])["checked_rows"]
    assert sum(e.status == "kept" for e in shelf.examples()) > 60
    assert len(set(splits(shelf).values())) == 3


def test_the_proof_sees_what_it_is_for(session):
    recipe = CurationRecipe()
    shelf = Shelf(session, recipe=recipe)
    episode = new_id()
    ids = [
        shelf.put(prompt("near"), answer("near"), (2,)),
        shelf.put("Hello. " + prompt("near"), answer("near") + " end", (1,)),
        shelf.put(prompt("equal"), answer("one"), episode_id=episode),
        shelf.put(prompt("equal"), answer("other")),
        shelf.put(prompt("own"), answer("own"), episode_id=episode),
        shelf.put(prompt("far"), answer("far")),
    ]
    shelf.work()
    for place, identifier in enumerate(ids):
        session.execute(
            text(
                "UPDATE example SET status = 'kept', drop_reason = NULL, split = :split "
                "WHERE id = :id"
            ),
            {"id": identifier, "split": ("train", "test", "train", "test", "test", "train")[place]},
        )
    dataset, _ = published(session, recipe)
    proof = dataset.card["leak_proof"]
    found = {name: n for name, n in proof.items() if name.startswith("cross_split")}
    assert found == {
        "cross_split_repeats": 1,
        "cross_split_similar_prompts": 1,
        "cross_split_equal_prompts": 1,
        "cross_split_episodes": 1,
    }
    assert proof["checked_rows"] == 6
    assert any("cross split repeats: 1" in warning for warning in dataset.card["warnings"])
    again = prove_no_leak(session, dataset, recipe, NO_TEMPLATES, previous=dataset)
    assert again["built_on"] is None, "nothing is built on a proof that found a leak"
    assert {name: again[name] for name in found} == found
