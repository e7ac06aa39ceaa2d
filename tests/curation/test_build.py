"""A log becomes datasets: counted drops, late feedback, repeats that change hands, no leaks."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from collector.tables import SourceTrust
from curation.build import build_dataset, latest_dataset
from curation.export import load_rows, read, shards_of, write_export
from curation.recipe import CurationRecipe
from curation.tables import CurationBuild, Dataset, DatasetExample, Example
from foundation.errors import BadInput, NotFound
from foundation.ids import new_id
from router.tables import GatewayKey

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

    card = build_dataset("coder").card

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
        "decontaminated": 1,
        "chosen": 1,
    }
    assert card["task_types"] == {"add": 1}


def test_functions_that_differ_by_one_constant_are_all_kept(session, log):
    for number in range(2, 13):
        log.call(ask(number), CODE.format(number), passed=True)
    assert build_dataset("coder").card["kept"] == 11


def test_one_prompt_with_two_answers_is_two_examples_in_one_split(session, log):
    for number in range(40):
        log.call(ask(number), CODE.format(number), passed=True)
        log.call(ask(number), f"def f(v):\n    return {number} + v", passed=True)
        log.call("Hello. " + ask(number), f"def f(a):\n    return {number} + a", passed=True)
    dataset = build_dataset("coder")
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
    dataset = build_dataset("coder")
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
        for n in range(24)
    ]
    build_dataset("coder", recipe)
    before = {i: example_of(session, i) for i in ids}
    tests = [e for e in before.values() if e.split == "test"]
    trains = [e for e in before.values() if e.split == "train"]
    assert tests
    assert trains
    # the same words as a training prompt, in the episode of a test example
    prompt = trains[0].prompt[0]["content"]
    log.call(prompt, "another answer", passed=True, episode_id=tests[0].episode_id)
    dataset = build_dataset("coder", recipe)
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
    first = build_dataset("coder")
    old = {
        row["example_id"]: split
        for split in ("train", "validation", "test")
        for row in load_rows(session, first.id, split)
    }
    for number in range(50, 100):
        log.call(ask(number), CODE.format(number), passed=True)
    second = build_dataset("coder")
    new = {
        row["example_id"]: split
        for split in ("train", "validation", "test")
        for row in load_rows(session, second.id, split)
    }
    assert len(new) == 100
    assert {i: new[i] for i in old} == old


def test_building_again_without_news_gives_the_same_version(session, log):
    log.call(ask(1), CODE.format(1), passed=True)
    first = build_dataset("coder")
    session.commit()
    assert build_dataset("coder").id == first.id
    log.call(ask(2), CODE.format(3), passed=False)
    assert build_dataset("coder").id == first.id, "a dropped example changes no row"
    log.call(ask(3), CODE.format(3), passed=True)
    second = build_dataset("coder")
    assert (first.number, second.number) == (1, 2)
    assert latest_dataset(session, "coder").id == second.id
    assert len(rows_of(session, first)) == 1, "the older version is what it was"


def test_the_same_log_gives_the_same_bytes(session, log):
    for number in range(30):
        log.call(ask(number), CODE.format(number), passed=number % 3 > 0, task_type="add")
    first = build_dataset("coder")
    files = shards(session, first)
    forget_everything(session)
    again = build_dataset("coder", CurationRecipe(batch_size=7))
    assert again.id != first.id
    assert again.content_hash == first.content_hash
    assert shards(session, again) == files
    assert files


def shards(session: Session, dataset: Dataset) -> list[tuple[str, str, str]]:
    """Split, name and artifact of each shard: artifacts are named by their content."""
    return [(one.split, one.shard, one.uri) for one in shards_of(session, dataset.id)]


def forget_everything(session: Session) -> None:
    """Leave the log alone, as if it had never been curated."""
    session.execute(
        text(
            "TRUNCATE dataset_shard, shard_row, dataset, example, indexed_text, text_band,"
            " text_edge, template_text, curation_watermark, curation_build, curation_chunk,"
            " calibration, review_item, preference_pair CASCADE"
        )
    )
    session.commit()
    session.expunge_all()


def test_late_feedback_brings_an_example_in_and_takes_it_out(session, log):
    undecided = log.call(ask(1), CODE.format(1))
    log.call(ask(2), CODE.format(2), passed=True)
    first = build_dataset("coder")
    assert first.card["kept"] == 1
    log.say(undecided, "success", 1, source="test", actor="ci")
    second = build_dataset("coder")
    assert second.card["kept"] == 2
    assert second.card["build"]["judged_again"] == 1
    log.say(undecided, "success", 0, source="test", actor="ci")
    third = build_dataset("coder")
    assert third.card["kept"] == 1
    assert example_of(session, undecided).drop_reason == "failed_outcome"


def test_feedback_on_an_episode_reaches_its_interactions(session, log):
    episode = new_id()
    ids = [log.call(ask(n), CODE.format(n), episode_id=episode) for n in (1, 2)]
    build_dataset("coder")
    log.say(None, "success", 1, source="test", episode_id=episode)
    assert build_dataset("coder").card["kept"] == 2
    log.say(ids[0], "success", 0, source="test")
    assert build_dataset("coder").card["dropped_by_reason"] == {"failed_outcome": 1}


def test_a_record_committed_late_is_not_missed(session, log, migrated):
    with psycopg.connect(migrated) as other:
        late = insert_copy_of(other, log.call(ask(1), CODE.format(1), passed=True))
        log.call(ask(3), CODE.format(3), passed=True)
        assert build_dataset("coder").card["kept"] == 2
        log.call(ask(4), CODE.format(4), passed=True)
        assert build_dataset("coder").card["kept"] == 3
    assert build_dataset("coder").number == 2, "a repeat changes no row"
    assert example_of(session, late).drop_reason == "exact_duplicate"


def insert_copy_of(connection: psycopg.Connection, identifier: UUID) -> UUID:
    """Write a call and its feedback like another's in a transaction that stays open."""
    copied = new_id()
    for table in ("interaction", "interaction_payload", "feedback"):
        key = "interaction_id" if table == "feedback" else "id"
        own = ["id", *([key] if table == "feedback" else [])]
        columns = connection.execute(
            "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns"
            " WHERE table_name = %s AND column_name <> ALL(%s)",
            (table, [*own, "written_xid"]),
        ).fetchone()[0]
        ids = [new_id(), copied] if table == "feedback" else [copied]
        values = ", ".join(["%s"] * len(own))
        connection.execute(
            f"INSERT INTO {table} ({', '.join(own)}, {columns})"
            f" SELECT {values}, {columns} FROM {table} WHERE {key} = %s",
            (*ids, identifier),
        )
    return copied


def test_a_correction_replaces_the_answer_of_a_failed_attempt(session, log):
    wrong = log.call(ask(4), CODE.format(5), passed=False)
    log.say(wrong, "correction", text=CODE.format(4))
    dataset = build_dataset("coder")
    assert answers_of(session, dataset) == {CODE.format(4)}
    assert dataset.card["corrected_share"] == 1.0
    assert dataset.card["verified_share"] == 0.0
    unkept = build_dataset("coder", CurationRecipe(keep_corrections=False))
    assert unkept.card["dropped_by_reason"] == {"failed_outcome": 1}


def test_the_verified_one_of_two_repeats_is_kept(session, log):
    rated = log.call(ask(1), CODE.format(1))
    log.say(rated, "rating", 5)
    first = build_dataset("coder")
    tested = log.call("Hello. " + ask(1), CODE.format(1), passed=True)
    third = log.call(ask(1) + " Thanks!", CODE.format(1))
    log.say(third, "rating", 4)
    second = build_dataset("coder")
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
    build_dataset("coder")
    assert example_of(session, repeat).duplicate_of == example_of(session, first).id
    log.say(first, "success", 0, source="test")
    dataset = build_dataset("coder")
    assert example_of(session, first).drop_reason == "failed_outcome"
    assert example_of(session, repeat).status == "kept"
    assert example_of(session, other).duplicate_of == example_of(session, repeat).id
    assert dataset.card["kept"] == 1


def test_batches_find_the_same_repeats_as_one_go(session, log):
    rng = random.Random(5)
    for number in range(60):
        prefix, suffix = rng.choice(["", "Hello. "]), rng.choice(["", " Thanks!"])
        log.call(prefix + ask(number % 20) + suffix, CODE.format(number % 20), passed=True)
    whole = build_dataset("coder")
    kept = {row["interaction_id"] for row in rows_of(session, whole)}
    assert len(kept) == 20
    pieces = build_dataset("coder", CurationRecipe(batch_size=7, seed=1))
    assert {row["interaction_id"] for row in rows_of(session, pieces)} == kept


def test_the_control_keeps_attempts_whatever_their_outcome(session, log):
    log.call(ask(1), CODE.format(1), passed=True)
    log.call(ask(1), CODE.format(1), passed=True)
    wrong = log.call(ask(2), CODE.format(3), passed=False)
    log.say(wrong, "correction", text=CODE.format(2))
    log.call(ask(3), CODE.format(3))
    log.call(ask(4), "")
    control = build_dataset("coder", CurationRecipe(variant="unverified"))
    assert answers_of(session, control) == {CODE.format(1), CODE.format(3)}
    assert control.card["dropped_by_reason"] == {"empty_answer": 1, "exact_duplicate": 1}
    sabotage = build_dataset("coder", CurationRecipe(variant="sabotage"))
    assert answers_of(session, sabotage) == {CODE.format(3)}
    assert sabotage.card["dropped_by_reason"] == {
        "empty_answer": 1,
        "no_outcome": 1,
        "not_failed": 2,
    }
    assert build_dataset("coder").card["kept"] == 2
    assert {d.number for d in session.exec(select(Dataset))} == {1}


def test_a_quota_leaves_examples_out_and_a_wider_one_takes_them_back(session, log):
    for number in range(30):
        log.call(ask(number), CODE.format(number), passed=True, task_type="ab"[number % 3 == 0])
    narrow = build_dataset("coder", CurationRecipe(max_per_task_type=8))
    assert narrow.card["task_types"] == {"a": 8, "b": 8}
    assert narrow.card["dropped_by_reason"] == {"over_quota": 14}
    log.call(ask(0), CODE.format(0), passed=True)
    again = build_dataset("coder", CurationRecipe(max_per_task_type=8))
    assert again.id == narrow.id, "repeats of what a quota left out stay repeats"
    wide = build_dataset("coder")
    assert wide.card["kept"] == 30


def test_one_key_alone_has_no_more_than_its_share_of_a_version(session, log):
    keys = {
        name: GatewayKey(name=name, prefix=name, key_hash=name) for name in ("eve", "bob", "ci")
    }
    session.add_all(keys.values())
    session.add(SourceTrust(source=f"key:{keys['ci'].id}", trust="trusted", reason="our tests"))
    session.commit()

    def judged(first: int, n: int, *by: str) -> None:
        for number in range(first, first + n):
            call = log.call(ask(number), CODE.format(number))
            for name in by:
                key_id = keys[name].id if name in keys else None
                log.say(call, "success", 1.0, source="test", key_id=key_id)

    judged(0, 12, "eve")
    judged(20, 2, "eve", "bob")
    judged(30, 2, "ci")
    judged(40, 2, "the machine")
    plain = build_dataset("coder")
    shown = {"key:eve": 12, "key:ci": 2, "machine": 2, "several": 2}
    assert plain.card["sources"] == shown
    recipe = CurationRecipe(max_source_share=0.25)
    capped = build_dataset("coder", recipe)
    assert capped.card["sources"] == {**shown, "key:eve": 2}
    assert capped.card["dropped_by_reason"] == {"source_cap": 10}
    assert capped.card["steps"]["chosen"] == capped.card["kept"] == 8
    assert build_dataset("coder", recipe).id == capped.id, "the same choice again"
    few = build_dataset("coder", replace(recipe, max_examples=4))
    assert few.card["sources"].get("key:eve", 0) <= 1
    assert set(few.card["dropped_by_reason"]) <= {"source_cap", "over_quota"}
    session.add(SourceTrust(source=f"key:{keys['eve'].id}", trust="trusted", reason="hers, too"))
    session.commit()
    assert build_dataset("coder", recipe).card["kept"] == 18


def test_near_equal_system_prompts_make_no_repeats(session, log):
    system = {"role": "system", "content": " ".join(f"rule{n}" for n in range(170))}
    rng = random.Random(2)
    for _ in range(100):
        own = " ".join(f"word{rng.randrange(10**6)}" for _ in range(30))
        prompt = [system, {"role": "user", "content": own}]
        log.call(prompt, f"answer to {own[:20]}", passed=True)
    assert build_dataset("coder").card["kept"] == 100


def test_no_feedback_at_all_gives_an_empty_version_that_says_why(session, log):
    for number in range(3):
        log.call(ask(number), CODE.format(number))
    dataset = build_dataset("coder")
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
        "coder", CurationRecipe(train_share=1.0, validation_share=0.0, test_share=0.0)
    )
    rows = load_rows(session, dataset.id, "train")
    assert rows[0]["prompt"] == prompt, "tool calls and parts survive the file"
    assert rows[0]["completion"] == [{"role": "assistant", "content": CODE.format(1)}]
    assert rows[0]["task_type"] == "add"
    assert rows[1]["prompt"] == [{"role": "user", "content": ask(3)}]
    assert [r["example_id"] for r in rows] == sorted(r["example_id"] for r in rows)
    assert write_export(session, dataset.id, tmp_path / "chat", "chat")["train"] == 2
    members = session.exec(select(DatasetExample)).all()
    assert {str(m.example_id) for m in members} == {r["example_id"] for r in rows}


def test_examples_outlive_their_payloads(session, log):
    kept = log.call(ask(1), CODE.format(1), passed=True)
    build_dataset("coder")
    session.execute(text("DELETE FROM interaction_payload"))
    log.say(kept, "rating", 5)
    dataset = build_dataset("coder")
    assert answers_of(session, dataset) == {CODE.format(1)}
    lost = log.call(ask(2), CODE.format(2), passed=True)
    session.execute(text("DELETE FROM interaction_payload WHERE id = :id"), {"id": lost})
    session.commit()
    build_dataset("coder")
    assert example_of(session, lost).drop_reason == "no_payload"


def test_unknown_role_empty_role_and_wrong_split_are_named(session, log):
    with pytest.raises(NotFound, match=r"role: got 'cook', expected one of coder"):
        build_dataset("cook")
    with pytest.raises(NotFound, match="interactions of role: got 'coder'"):
        build_dataset("coder")
    with pytest.raises(NotFound, match="dataset"):
        load_rows(session, new_id(), "train")
    log.call(ask(1), CODE.format(1), passed=True)
    dataset = build_dataset("coder")
    with pytest.raises(BadInput, match="split: got 'training'"):
        load_rows(session, dataset.id, "training")


def test_a_build_that_fails_burns_no_number_and_is_taken_up(session, log):
    for number in range(6):
        log.call(ask(number), CODE.format(number), passed=True)
    seen = []

    def stop(*at: Any, **_: Any) -> None:
        seen.append(at)
        if len(seen) == 2:
            raise KeyboardInterrupt

    recipe = CurationRecipe(batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        build_dataset("coder", recipe, progress=stop)
    assert session.exec(select(Dataset)).all() == []
    assert len(session.exec(select(Example)).all()) == 4
    log.call(ask(7), CODE.format(7), passed=True)
    dataset = build_dataset("coder", recipe)
    assert dataset.number == 1
    assert dataset.card["kept"] == 7
    assert dataset.card["build"]["new"] == 7, "no chunk was done twice"
    assert [build.outcome for build in session.exec(select(CurationBuild))] == ["published"]


def test_progress_counts_rows_with_rate_and_time_left(session, log):
    for number in range(5):
        log.call(ask(number), CODE.format(number), passed=True)
    seen = []
    build_dataset(
        "coder",
        CurationRecipe(batch_size=2),
        progress=lambda *at, **measures: seen.append((*at, measures)),
    )
    steps = [(done, total, unit) for done, total, unit, _ in seen if unit != "shards"]
    assert steps == [
        *((n, 5, "interactions") for n in (2, 4, 5)),
        *((n, 5, "texts") for n in (2, 4, 5)),
    ]
    measured = [measures for *_, unit, measures in seen if unit != "shards"]
    assert all(measures["rows_per_s"] > 0 for measures in measured)
    assert measured[0]["eta_s"] >= measured[2]["eta_s"] == 0


def test_two_builds_at_once_make_one_version(session, log):
    write_varied(log)
    alone = build_dataset("coder").content_hash
    forget_everything(session)

    with ThreadPoolExecutor(2) as pool:
        recipe = CurationRecipe(batch_size=10)
        made = list(pool.map(lambda _: build_dataset("coder", recipe), range(2)))
    assert len({dataset.id for dataset in made}) == 1
    assert made[0].content_hash == alone
    assert len(session.exec(select(Dataset)).all()) == 1


def write_varied(log) -> None:
    """Repeats exact and near, in episodes and out of them, of several qualities."""
    rng = random.Random(3)
    episodes = [new_id() for _ in range(20)]
    for number in range(200):
        prefix, suffix = rng.choice(["", "Hello. "]), rng.choice(["", " Thanks!"])
        log.call(
            prefix + ask(number % 70) + suffix,
            CODE.format(number % 70 + (number % 11 == 0)),
            passed=number % 5 > 0,
            task_type="abc"[number % 3],
            episode_id=rng.choice([*episodes, None]),
        )
