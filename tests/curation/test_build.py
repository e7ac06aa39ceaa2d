"""A log becomes datasets: counted drops, late feedback, repeats that change hands, no leaks."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from curation.build import build_dataset, latest_dataset
from curation.export import load_rows, read, write_jsonl
from curation.recipe import CurationRecipe
from curation.tables import Dataset, DatasetExample, Example
from foundation.artifacts import fetch, hash_tree
from foundation.database import session_scope
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id

CODE = "def f(x):\n    return x + {}"


def ask(number: int, noun: str = "numbers") -> str:
    return f"Write a function f(x) that returns the {noun} increased by {number}."


def example_of(session: Session, interaction_id: Any, variant: str = "default") -> Example:
    return session.exec(
        select(Example)
        .where(Example.interaction_id == interaction_id, Example.variant == variant)
        .execution_options(populate_existing=True)
    ).one()


def rows_of(session: Session, dataset: Dataset) -> list[dict[str, Any]]:
    return [
        row for split in ("train", "validation", "test") for row in read(session, dataset.id, split)
    ]


def answers_of(session: Session, dataset: Dataset) -> set[str]:
    return {row["completion"][0]["content"] for row in rows_of(session, dataset)}


def test_every_candidate_is_kept_or_dropped_for_one_counted_reason(session, log):
    log.call(ask(1), CODE.format(1), passed=True, task_type="add")
    log.call(ask(1), CODE.format(1), passed=True, task_type="add")
    log.call("Hello. " + ask(1), CODE.format(1), passed=True)
    log.call(ask(2), CODE.format(3), passed=False)
    log.call(ask(3), CODE.format(3))
    log.call(ask(4), "")
    log.call(ask(5), "def f(x):\n    return x +", passed=False)
    log.call(ask(6), CODE.format(6), passed=True, completed=False, status="cut")
    log.call(ask(7), CODE.format(7), passed=True, status="error", error_type="Timeout")
    log.call(ask(8), CODE.format(8), passed=True, finish="length")
    log.call(ask(9), "I'm sorry, but I can't help with that.", passed=True)
    rated = log.call(ask(10), CODE.format(10))
    log.say(rated, "rating", 2)
    log.call(ask(99), CODE.format(99), passed=True, role="tester")

    card = build_dataset(session, "coder").card

    assert card["dropped_by_reason"] == {
        "exact_duplicate": 1,
        "near_duplicate": 1,
        "failed_outcome": 1,
        "no_outcome": 1,
        "empty_answer": 1,
        "syntax_error": 1,
        "incomplete": 1,
        "error": 1,
        "truncated": 1,
        "refusal": 1,
        "low_rating": 1,
    }
    assert card["kept"] == 1
    assert card["candidates"] == card["kept"] + sum(card["dropped_by_reason"].values()) == 12
    assert card["steps"] == {
        "candidates": 12,
        "well_formed": 6,
        "proven": 3,
        "unique": 1,
        "chosen": 1,
    }
    assert card["task_types"] == {"add": 1}


def test_functions_that_differ_by_one_constant_are_all_kept(session, log):
    for number in range(2, 13):
        log.call(ask(number), CODE.format(number), passed=True)
    assert build_dataset(session, "coder").card["kept"] == 11


def test_one_prompt_with_two_answers_is_two_examples_in_one_split(session, log):
    for number in range(40):
        log.call(ask(number), CODE.format(number), passed=True)
        log.call(ask(number), f"def f(v):\n    return {number} + v", passed=True)
        log.call("Hello. " + ask(number), f"def f(a):\n    return {number} + a", passed=True)
    dataset = build_dataset(session, "coder")
    assert dataset.card["kept"] == 120
    split_of_number: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        for row in load_rows(session, dataset.id, split):
            number = row["prompt"][0]["content"].removeprefix("Hello. ")
            split_of_number.setdefault(number, set()).add(split)
    assert len(split_of_number) == 40
    assert all(len(splits) == 1 for splits in split_of_number.values())
    assert len({next(iter(s)) for s in split_of_number.values()}) > 1
    assert_no_leak(dataset)


def assert_no_leak(dataset: Dataset) -> None:
    proof = dataset.card["leak_proof"]
    assert proof["checked_all"]
    assert {name: n for name, n in proof.items() if name.startswith("cross_split") and n} == {}


def test_named_tasks_and_episodes_stay_in_one_split(session, log):
    words = random.Random(1)
    for number in range(60):
        episode = new_id()
        for _ in range(3):
            prompt = " ".join(f"w{words.randrange(10**6)}" for _ in range(30))
            key = f"key{number}" if number % 2 else None
            log.call(prompt, f"answer {prompt[:9]}", passed=True, task_key=key, episode_id=episode)
    dataset = build_dataset(session, "coder")
    assert dataset.card["kept"] == 180
    assert dataset.card["groups"] == 60
    assert_no_leak(dataset)
    assert min(dataset.n_train, dataset.n_validation, dataset.n_test) > 0


def test_an_example_that_ties_two_groups_moves_neither_out_of_test(session, log):
    recipe = CurationRecipe(train_share=0.5, validation_share=0.0, test_share=0.5)
    ids = [
        log.call(
            f"question {n} about w{n} x{n} y{n}", f"answer {n}", passed=True, episode_id=new_id()
        )
        for n in range(12)
    ]
    build_dataset(session, "coder", recipe)
    before = {i: example_of(session, i) for i in ids}
    tests = [e for e in before.values() if e.split == "test"]
    trains = [e for e in before.values() if e.split == "train"]
    assert tests
    assert trains
    # the same words as a training prompt, in the episode of a test example
    prompt = trains[0].prompt[0]["content"]
    log.call(prompt, "another answer", passed=True, episode_id=tests[0].episode_id)
    dataset = build_dataset(session, "coder", recipe)
    splits = {
        e.interaction_id: e.split
        for e in session.exec(select(Example).execution_options(populate_existing=True))
    }
    assert splits[tests[0].interaction_id] == "test"
    assert splits[trains[0].interaction_id] == "test"
    assert_no_leak(dataset)
    assert all(splits[e.interaction_id] == "test" for e in tests)


def test_growth_moves_no_example_to_another_split(session, log):
    for number in range(50):
        log.call(ask(number), CODE.format(number), passed=True)
    first = build_dataset(session, "coder")
    old = {
        row["example_id"]: split
        for split in ("train", "validation", "test")
        for row in load_rows(session, first.id, split)
    }
    for number in range(50, 100):
        log.call(ask(number), CODE.format(number), passed=True)
    second = build_dataset(session, "coder")
    new = {
        row["example_id"]: split
        for split in ("train", "validation", "test")
        for row in load_rows(session, second.id, split)
    }
    assert len(new) == 100
    assert {i: new[i] for i in old} == old


def test_building_again_without_news_gives_the_same_version(session, log):
    log.call(ask(1), CODE.format(1), passed=True)
    first = build_dataset(session, "coder")
    session.commit()
    assert build_dataset(session, "coder").id == first.id
    log.call(ask(2), CODE.format(3), passed=False)
    assert build_dataset(session, "coder").id == first.id, "a dropped example changes no row"
    log.call(ask(3), CODE.format(3), passed=True)
    second = build_dataset(session, "coder")
    assert (first.number, second.number) == (1, 2)
    assert latest_dataset(session, "coder").id == second.id
    assert len(rows_of(session, first)) == 1, "the older version is what it was"


def test_the_same_log_gives_the_same_bytes(session, log):
    for number in range(30):
        log.call(ask(number), CODE.format(number), passed=number % 3 > 0, task_type="add")
    first = build_dataset(session, "coder")
    first_hash = hash_tree(fetch(first.artifact_uri))
    for table in ("dataset_example", "dataset", "example_band", "example", "curation_watermark"):
        session.execute(text(f"DELETE FROM {table}"))
    session.expunge_all()
    again = build_dataset(session, "coder", CurationRecipe(batch_size=7))
    assert again.content_hash == first.content_hash
    rows = [sorted(p.name for p in fetch(d.artifact_uri).iterdir()) for d in (first, again)]
    assert rows[0] == ["card.json", "test.parquet", "train.parquet", "validation.parquet"]
    for name in rows[0][1:]:
        assert (fetch(first.artifact_uri) / name).read_bytes() == (
            fetch(again.artifact_uri) / name
        ).read_bytes()
    assert first_hash[1] > 0


def test_late_feedback_brings_an_example_in_and_takes_it_out(session, log):
    undecided = log.call(ask(1), CODE.format(1))
    log.call(ask(2), CODE.format(2), passed=True)
    first = build_dataset(session, "coder")
    assert first.card["kept"] == 1
    log.say(undecided, "success", 1, source="test", actor="ci")
    second = build_dataset(session, "coder")
    assert second.card["kept"] == 2
    assert second.card["build"]["judged_again"] == 1
    log.say(undecided, "success", 0, source="test", actor="ci")
    third = build_dataset(session, "coder")
    assert third.card["kept"] == 1
    assert example_of(session, undecided).drop_reason == "failed_outcome"


def test_feedback_on_an_episode_reaches_its_interactions(session, log):
    episode = new_id()
    ids = [log.call(ask(n), CODE.format(n), episode_id=episode) for n in (1, 2)]
    build_dataset(session, "coder")
    log.say(None, "success", 1, source="test", episode_id=episode)
    assert build_dataset(session, "coder").card["kept"] == 2
    log.say(ids[0], "success", 0, source="test")
    assert build_dataset(session, "coder").card["dropped_by_reason"] == {"failed_outcome": 1}


def test_a_record_committed_late_is_not_missed(session, log):
    log.call(ask(1), CODE.format(1), passed=True)
    build_dataset(session, "coder")
    log.call(ask(2), CODE.format(2), passed=True, ingested_at=log.clock - timedelta(minutes=30))
    assert build_dataset(session, "coder").card["kept"] == 2


def test_a_correction_replaces_the_answer_of_a_failed_attempt(session, log):
    wrong = log.call(ask(4), CODE.format(5), passed=False)
    log.say(wrong, "correction", text=CODE.format(4))
    dataset = build_dataset(session, "coder")
    assert answers_of(session, dataset) == {CODE.format(4)}
    assert dataset.card["corrected_share"] == 1.0
    assert dataset.card["verified_share"] == 0.0
    unkept = build_dataset(session, "coder", CurationRecipe(keep_corrections=False))
    assert unkept.card["dropped_by_reason"] == {"failed_outcome": 1}


def test_the_verified_one_of_two_repeats_is_kept(session, log):
    rated = log.call(ask(1), CODE.format(1))
    log.say(rated, "rating", 5)
    first = build_dataset(session, "coder")
    tested = log.call("Hello. " + ask(1), CODE.format(1), passed=True)
    third = log.call(ask(1) + " Thanks!", CODE.format(1))
    log.say(third, "rating", 4)
    second = build_dataset(session, "coder")
    assert (first.card["kept"], second.card["kept"]) == (1, 1)
    kept = example_of(session, tested)
    assert kept.status == "kept"
    for repeat in (example_of(session, rated), example_of(session, third)):
        assert repeat.drop_reason == "near_duplicate"
        assert repeat.duplicate_of == repeat.cluster_id == kept.id
        assert 0.8 <= repeat.similarity < 1


def test_when_a_representative_fails_its_repeat_takes_its_place(session, log):
    first = log.call(ask(1), CODE.format(1), passed=True)
    repeat = log.call(ask(1), CODE.format(1), passed=True)
    other = log.call("Hello. " + ask(1), CODE.format(1), passed=True)
    build_dataset(session, "coder")
    assert example_of(session, repeat).duplicate_of == example_of(session, first).id
    log.say(first, "success", 0, source="test")
    dataset = build_dataset(session, "coder")
    assert example_of(session, first).drop_reason == "failed_outcome"
    assert example_of(session, repeat).status == "kept"
    assert example_of(session, other).duplicate_of == example_of(session, repeat).id
    assert dataset.card["kept"] == 1
    bands = session.execute(
        text("SELECT count(DISTINCT example_id) FROM example_band WHERE band < 16")
    )
    assert bands.scalar_one() == 1, "only representatives are indexed"


def test_batches_find_the_same_repeats_as_one_go(session, log):
    rng = random.Random(5)
    for number in range(60):
        prefix, suffix = rng.choice(["", "Hello. "]), rng.choice(["", " Thanks!"])
        log.call(prefix + ask(number % 20) + suffix, CODE.format(number % 20), passed=True)
    whole = build_dataset(session, "coder")
    kept = {row["interaction_id"] for row in rows_of(session, whole)}
    assert len(kept) == 20
    pieces = build_dataset(session, "coder", CurationRecipe(batch_size=7, seed=1))
    assert {row["interaction_id"] for row in rows_of(session, pieces)} == kept


def test_the_control_keeps_attempts_whatever_their_outcome(session, log):
    log.call(ask(1), CODE.format(1), passed=True)
    log.call(ask(1), CODE.format(1), passed=True)
    wrong = log.call(ask(2), CODE.format(3), passed=False)
    log.say(wrong, "correction", text=CODE.format(2))
    log.call(ask(3), CODE.format(3))
    log.call(ask(4), "")
    control = build_dataset(session, "coder", CurationRecipe(variant="unverified"))
    assert answers_of(session, control) == {CODE.format(1), CODE.format(3)}
    assert control.card["dropped_by_reason"] == {"empty_answer": 1, "exact_duplicate": 1}
    sabotage = build_dataset(session, "coder", CurationRecipe(variant="sabotage"))
    assert answers_of(session, sabotage) == {CODE.format(3)}
    assert sabotage.card["dropped_by_reason"] == {
        "empty_answer": 1,
        "no_outcome": 1,
        "not_failed": 2,
    }
    assert build_dataset(session, "coder").card["kept"] == 2
    assert {d.number for d in session.exec(select(Dataset))} == {1}


def test_a_quota_leaves_examples_out_and_a_wider_one_takes_them_back(session, log):
    for number in range(30):
        log.call(ask(number), CODE.format(number), passed=True, task_type="ab"[number % 3 == 0])
    narrow = build_dataset(session, "coder", CurationRecipe(max_per_task_type=8))
    assert narrow.card["task_types"] == {"a": 8, "b": 8}
    assert narrow.card["dropped_by_reason"] == {"over_quota": 14}
    log.call(ask(0), CODE.format(0), passed=True)
    again = build_dataset(session, "coder", CurationRecipe(max_per_task_type=8))
    assert again.id == narrow.id, "repeats of what a quota left out stay repeats"
    wide = build_dataset(session, "coder")
    assert wide.card["kept"] == 30


def test_near_equal_system_prompts_make_no_repeats(session, log):
    system = {"role": "system", "content": " ".join(f"rule{n}" for n in range(170))}
    rng = random.Random(2)
    for _ in range(100):
        own = " ".join(f"word{rng.randrange(10**6)}" for _ in range(30))
        prompt = [system, {"role": "user", "content": own}]
        log.call(prompt, f"answer to {own[:20]}", passed=True)
    assert build_dataset(session, "coder").card["kept"] == 100


def test_no_feedback_at_all_gives_an_empty_version_that_says_why(session, log):
    for number in range(3):
        log.call(ask(number), CODE.format(number))
    dataset = build_dataset(session, "coder")
    assert dataset.card["dropped_by_reason"] == {"no_outcome": 3}
    assert (dataset.n_train, dataset.n_validation, dataset.n_test) == (0, 0, 0)
    assert load_rows(session, dataset.id, "train") == []
    assert "the train split is empty" in dataset.card["warnings"]


def test_rows_are_what_a_trainer_reads(session, log, tmp_path):
    call = {"id": "1", "type": "function", "function": {"name": "run", "arguments": "{}"}}
    prompt = [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": [{"type": "text", "text": "Add one to x é"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "ok", "tool_call_id": "1"},
    ]
    log.call(prompt, CODE.format(1), passed=True, task_type="add")
    log.call(ask(3), CODE.format(3), passed=True)
    dataset = build_dataset(
        session, "coder", CurationRecipe(train_share=1.0, validation_share=0.0, test_share=0.0)
    )
    rows = load_rows(session, dataset.id, "train")
    assert rows[0]["prompt"] == prompt, "tool calls and parts survive the file"
    assert rows[0]["completion"] == [{"role": "assistant", "content": CODE.format(1)}]
    assert rows[0]["task_type"] == "add"
    assert rows[1]["prompt"] == [{"role": "user", "content": ask(3)}]
    assert [r["example_id"] for r in rows] == sorted(r["example_id"] for r in rows)
    path = tmp_path / "train.jsonl"
    assert write_jsonl(session, dataset.id, "train", path) == 2
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    members = session.exec(select(DatasetExample)).all()
    assert {str(m.example_id) for m in members} == {r["example_id"] for r in rows}


def test_examples_outlive_their_payloads(session, log):
    kept = log.call(ask(1), CODE.format(1), passed=True)
    build_dataset(session, "coder")
    session.execute(text("DELETE FROM interaction_payload"))
    log.say(kept, "rating", 5)
    dataset = build_dataset(session, "coder")
    assert answers_of(session, dataset) == {CODE.format(1)}
    lost = log.call(ask(2), CODE.format(2), passed=True)
    session.execute(text("DELETE FROM interaction_payload WHERE id = :id"), {"id": lost})
    build_dataset(session, "coder")
    assert example_of(session, lost).drop_reason == "no_payload"


def test_unknown_role_empty_role_and_wrong_split_are_named(session, log):
    with pytest.raises(NotFound, match=r"role: got 'cook', expected one of coder"):
        build_dataset(session, "cook")
    with pytest.raises(NotFound, match="interactions of role: got 'coder'"):
        build_dataset(session, "coder")
    with pytest.raises(NotFound, match="dataset"):
        load_rows(session, new_id(), "train")
    log.call(ask(1), CODE.format(1), passed=True)
    dataset = build_dataset(session, "coder")
    with pytest.raises(BadInput, match="split: got 'training'"):
        load_rows(session, dataset.id, "training")


def test_a_build_that_fails_leaves_nothing(session, log):
    log.call(ask(1), CODE.format(1), passed=True)
    session.commit()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_dataset(session, "coder", progress=stop)
    session.rollback()
    assert session.exec(select(Example)).all() == []
    assert build_dataset(session, "coder").number == 1


def test_progress_counts_interactions(session, log):
    for number in range(5):
        log.call(ask(number), CODE.format(number), passed=True)
    seen = []
    build_dataset(
        session, "coder", CurationRecipe(batch_size=2), progress=lambda *at: seen.append(at)
    )
    assert seen == [(2, 5, "interactions"), (4, 5, "interactions"), (5, 5, "interactions")]


def test_the_watermark_is_of_the_log_not_of_this_clock(session, log):
    log.call(ask(1), CODE.format(1), passed=True)
    build_dataset(session, "coder")
    mark = session.execute(text("SELECT seen_until FROM curation_watermark")).scalar_one()
    assert mark == log.clock < datetime.now(UTC)


def test_two_builds_at_once_make_one_version(session, log):
    for number in range(200):
        log.call(ask(number), CODE.format(number), passed=True)
    session.commit()

    def build(_: int) -> UUID:
        with session_scope() as own:
            return build_dataset(own, "coder").id

    with ThreadPoolExecutor(2) as pool:
        ids = set(pool.map(build, range(2)))
    assert len(ids) == 1
    assert len(session.exec(select(Example)).all()) == 200
