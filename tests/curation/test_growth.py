"""Groups and verdicts hold while words come late, repeats change hands and calls are erased."""

import random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from curation.build import build_dataset
from curation.decontaminate.block import _STAMPS
from curation.erase import Subject, erase
from curation.recipe import CurationRecipe
from curation.split import split_of, task_split_key
from curation.tables import Dataset, Example
from foundation.ids import new_id

HALVES = CurationRecipe(train_share=0.5, validation_share=0.0, test_share=0.5, calibrate=False)


def prompt(seed: int) -> str:
    return " ".join(f"w{random.Random(seed).randrange(10**6)}x{n}" for n in range(30))


def answer(seed: int) -> str:
    return " ".join(f"a{random.Random(seed).randrange(10**6)}y{n}" for n in range(30))


def example_of(session: Session, interaction_id: UUID) -> Example:
    query = select(Example).where(Example.interaction_id == interaction_id)
    return session.exec(query.execution_options(populate_existing=True)).one()


def names_apart() -> tuple[str, str]:
    """Names of two tasks, of which alone the first would be trained on and the other tested."""
    names = {split_of(task_split_key(f"task-{n}"), HALVES): f"task-{n}" for n in range(20)}
    return names["train"], names["test"]


def assert_no_leak(dataset: Dataset) -> None:
    proof = dataset.card["leak_proof"]
    assert {name: n for name, n in proof.items() if name.startswith("cross_split") and n} == {}


@pytest.fixture
def joined(log: Any) -> list[UUID]:
    """Two calls of one episode, whose tasks would be in two splits if they were apart."""
    episode = new_id()
    calls = [
        log.call(prompt(n), answer(n), passed=True, task_key=name, episode_id=episode)
        for n, name in enumerate(names_apart())
    ]
    assert build_dataset("coder", HALVES).n_test == 2
    return calls


def test_a_late_word_on_a_named_task_leaves_it_in_its_group(session, log, joined):
    log.say(joined[0], "success", 1.0, source="test")
    dataset = build_dataset("coder", HALVES)
    assert [example_of(session, i).split for i in joined] == ["test", "test"]
    assert_no_leak(dataset)


def test_a_named_task_keeps_its_split_when_its_group_took_another_name(session, log, joined):
    late = log.call(prompt(7), answer(7), passed=True, task_key=names_apart()[0])
    build_dataset("coder", HALVES)
    assert example_of(session, late).split == "test"


def test_a_repeat_that_was_judged_again_is_promoted_into_its_group(session, log, joined):
    twin = log.call(
        prompt(0), answer(0), passed=True, task_key=names_apart()[0], episode_id=new_id()
    )
    build_dataset("coder", HALVES)
    log.say(joined[0], "rating", 5)  # the older one stands, the other is now below it
    build_dataset("coder", HALVES)
    log.say(twin, "rating", 4)
    build_dataset("coder", HALVES)
    assert example_of(session, twin).status == "dropped"
    log.say(joined[0], "success", 0.0, source="human")
    dataset = build_dataset("coder", HALVES)
    promoted = example_of(session, twin)
    assert (promoted.status, promoted.split) == ("kept", "test")
    assert promoted.split_key == example_of(session, joined[1]).split_key
    assert_no_leak(dataset)


def test_what_was_said_of_an_erased_call_counts_for_no_other_one_either(session, log):
    lost, won = (log.call(prompt(1), answer(n), passed=True) for n in range(2))
    log.say(lost, "rating", 4)
    log.say(won, "rating", 4)
    build_dataset("coder", HALVES)
    before = example_of(session, won).score
    log.say(won, "preference", 1.0, loser_interaction_id=lost)
    build_dataset("coder", HALVES)
    assert example_of(session, won).score != before
    erase(session, Subject("interaction", (str(lost),)), actor="me")
    session.commit()
    build_dataset("coder", HALVES)
    assert example_of(session, won).score == before


def test_what_was_held_against_all_benchmarks_is_found_without_reading_examples(session):
    session.execute(text("SET LOCAL enable_seqscan = off"))
    given = {"role": "coder", "variant": "default", "stamp": "1|now"}
    plan = session.execute(text(f"EXPLAIN {_STAMPS.text}"), given).scalars().all()
    assert any("ix_example_protection" in line for line in plan), plan
