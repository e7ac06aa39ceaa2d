"""Publishing: rows cut into shards by content, and what a change, or none, makes of a version."""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
from published import add_example, add_pair, published
from sqlalchemy import delete, event, func
from sqlmodel import Session, select

from curation.export import load_rows, read, shards_of
from curation.publish.quality import SAMPLE_SIZE
from curation.publish.rows import make_row, row_hash
from curation.publish.shards import MEAN_ROWS, MOST_ROWS, Entry, cut, shard_name
from curation.recipe import CurationRecipe
from curation.tables import (
    DROPPED,
    Dataset,
    DatasetExample,
    DatasetShard,
    Example,
    ShardRow,
)
from foundation.artifacts import fetch
from foundation.chat import message
from foundation.ids import new_id
from foundation.settings import get_settings


def add_examples(session: Session, n: int, **columns) -> list[Example]:
    """Kept examples with ids that do end shards: a thousand of them are about one."""
    added = [
        add_example(session, f"task {i}", f"answer {i}", id=one, **columns)
        for i, one in enumerate(many_ids(n))
    ]
    session.flush()
    return added


def many_ids(n: int) -> list[UUID]:
    """Sorted ids, the same in every run."""
    draw = random.Random(1)
    return sorted(UUID(int=draw.getrandbits(128)) for _ in range(n))


def entries(ids: Sequence[UUID]) -> list[Entry]:
    return [Entry(identifier, "h", 1.0, "k") for identifier in ids]


def test_cutting_keeps_every_row_in_order_and_bounds_a_shard():
    ids = many_ids(20_000)
    shards = list(cut(entries(ids)))
    assert [entry.id for shard in shards for entry in shard] == ids
    assert max(map(len, shards)) <= MOST_ROWS
    assert 0.5 * MEAN_ROWS < len(ids) / len(shards) < 2 * MEAN_ROWS
    assert list(cut([])) == []


def test_one_more_row_changes_one_shard():
    ids = many_ids(20_000)
    before = {shard_name(shard) for shard in cut(entries(ids))}
    after = {shard_name(shard) for shard in cut(entries(ids[:9_000] + ids[9_001:]))}
    assert len(before - after) == 1
    assert len(after - before) == 1


def test_a_shard_is_named_by_all_that_its_rows_say():
    one = Entry(new_id(), "h", 0.5, "k")
    assert shard_name([one]) == shard_name([one._replace(score=0.50001)])
    changed = [one._replace(row_hash="g"), one._replace(score=0.6), one._replace(score=None)]
    changed += [one._replace(split_key="l"), one._replace(id=new_id())]
    assert shard_name([one]) not in {shard_name([entry]) for entry in changed}


def test_rows_come_back_as_they_were_judged(session):
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}]
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]}
    plain = add_example(session, "say one", "one", task_type="talk", language="en")
    rich = add_example(session, "look", "", answer_message=calls)
    rich.prompt = [message("system", "s"), {"role": "user", "content": parts}]
    rich.row_hash = row_hash(rich.model_dump())
    session.flush()
    dataset, is_new = published(session)
    assert is_new
    first, second = read(session, dataset.id, "train")
    assert first == make_row(plain.model_dump())
    assert second["prompt"][1]["content"] == parts
    assert second["completion"] == [calls]
    assert load_rows(session, dataset.id, "train")[0] == {
        "prompt": [message("user", "say one")],
        "completion": [message("assistant", "one")],
        "example_id": str(plain.id),
        "task_type": "talk",
    }


def test_each_split_is_kept_apart_and_empty_ones_are_empty(session):
    kept = add_example(session, "a", "b", split="validation")
    add_example(session, "c", "d", status=DROPPED, drop_reason="low_score")
    add_example(session, "e", "f", variant="unverified")
    session.flush()
    dataset, _ = published(session)
    assert (dataset.n_train, dataset.n_validation, dataset.n_test) == (0, 1, 0)
    assert load_rows(session, dataset.id, "train") == []
    (row,) = load_rows(session, dataset.id, "validation")
    assert row["example_id"] == str(kept.id)
    (member,) = session.exec(select(DatasetExample)).all()
    assert (member.dataset_id, member.example_id, member.split) == (
        dataset.id,
        kept.id,
        "validation",
    )


def test_nothing_new_is_the_last_version_and_uses_no_number(session):
    add_examples(session, 3)
    first, is_new = published(session)
    assert is_new
    assert published(session) == (first, False)
    add_example(session, "one more", "answer")
    session.flush()
    second, is_new = published(session)
    assert (second.number, is_new) == (2, True)
    changed, is_new = published(session, CurationRecipe(seed=1))
    assert (changed.number, is_new) == (3, True)


def test_a_role_without_a_kept_example_gets_an_empty_version_that_says_why(session):
    add_example(session, "a", "b", status=DROPPED, drop_reason="no_outcome")
    session.flush()
    dataset, is_new = published(session)
    assert is_new
    assert dataset.n_train == 0
    assert dataset.card["dropped_by_reason"] == {"no_outcome": 1}
    assert "the train split is empty" in dataset.card["warnings"]
    assert shards_of(session, dataset.id) == []


def test_a_small_change_writes_and_reads_only_its_shards(session):
    add_examples(session, 3 * MEAN_ROWS)
    first, _ = published(session)
    before = {shard.shard for shard in shards_of(session, first.id)}
    add_example(session, "the last", "answer")
    session.flush()
    texts = []

    def note(connection, cursor, statement, *rest) -> None:
        if "answer_message" in statement:
            texts.append(statement)

    event.listen(session.get_bind(), "before_cursor_execute", note)
    second, _ = published(session)
    event.remove(session.get_bind(), "before_cursor_execute", note)
    after = {shard.shard: shard.n_rows for shard in shards_of(session, second.id)}
    (changed,) = after.keys() - before
    assert len(before - after.keys()) <= 1
    assert len(texts) <= 2 + (after[changed] + SAMPLE_SIZE) // 256
    assert second.card["build"]["shards_written"] == 1
    n_named = session.execute(select(func.count()).select_from(ShardRow)).scalar_one()
    assert n_named < first.n_train + second.n_train


def test_the_same_rows_give_the_same_bytes_in_any_place(session, monkeypatch, tmp_path):
    add_examples(session, 50)
    first, _ = published(session)
    session.execute(delete(DatasetShard))
    session.execute(delete(Dataset))
    session.flush()
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "elsewhere"))
    get_settings.cache_clear()
    second, _ = published(session)
    assert second.content_hash == first.content_hash
    assert second.artifact_uri == first.artifact_uri


def test_a_shard_whose_file_is_gone_is_written_again(session):
    add_example(session, "a", "b")
    session.flush()
    first, _ = published(session)
    (shard,) = shards_of(session, first.id)
    shutil.rmtree(fetch(shard.uri))
    published(session, CurationRecipe(seed=1))
    assert Path(fetch(shard.uri) / shard.file).exists()


def test_preference_pairs_are_published_as_pairs(session):
    better = add_example(session, "sort", "sorted(x)", n_tokens=7, code_language="python")
    add_pair(session, "sort a list", "sorted(x)", "x", margin=0.9, winner_id=better.interaction_id)
    session.flush()
    dataset, is_new = published(session, kind="preference")
    assert is_new
    assert dataset.card["n_tokens"]["total"] == 7
    assert dataset.card["code_languages"] == {"python": 1}
    (row,) = read(session, dataset.id, "train")
    assert row["chosen"] == [message("assistant", "sorted(x)")]
    assert row["rejected"] == [message("assistant", "x")]
    assert (row["score"], row["basis"]) == (0.9, "outcome")
    with pytest.raises(Exception, match="kind of dataset"):
        load_rows(session, dataset.id, "train")


def test_an_evaluation_set_has_only_fresh_tasks_that_can_be_graded(session):
    add_example(session, "trained on", "yes")
    proven = {"split": "test", "scores": {"outcome": True}}
    held_out = add_example(session, "What is 2 + 2?", "4", **proven)
    add_example(session, "Write an essay.", "word " * 60, **proven)
    session.flush()
    dataset, is_new = published(session, kind="eval")
    assert is_new
    (row,) = read(session, dataset.id, "test")
    assert row["example_id"] == str(held_out.id)
    assert row["task"]["reference"] == {"answer": "4", "last_line": True}
    assert (dataset.n_train, dataset.n_test) == (0, 1)
    assert published(session, kind="eval") == (dataset, False)


def test_what_a_task_is_graded_by_counts_as_said_by_it(session):
    task = add_example(session, "What is 2 + 2?", "4", split="test", scores={"outcome": True})
    session.flush()
    first, _ = published(session, kind="eval")
    task.scores = {"outcome": True, "task_key": "sum"}
    session.flush()
    second, is_new = published(session, kind="eval")
    assert is_new
    (row,) = read(session, second.id, "test")
    assert row["task"]["task_id"] == "sum"


def test_rows_of_other_versions_stand_in_train_as_they_were(session):
    replayed = add_example(session, "old task", "old answer", role="tester")
    session.flush()
    earlier, _ = published(session, role="tester")
    add_examples(session, 3)
    recipe = CurationRecipe(replay_datasets=(str(earlier.id),), replay_share=0.25)
    dataset, _ = published(session, recipe)
    origins = [(s.split, s.n_rows, s.origin) for s in shards_of(session, dataset.id)]
    assert origins[-1] == ("train", 1, f"replay:{earlier.id}")
    assert load_rows(session, dataset.id, "train")[-1] == load_rows(session, earlier.id, "train")[0]
    assert dataset.n_train == 4
    assert (dataset.card["kept"], dataset.card["mixed_in"]) == (3, {f"replay:{earlier.id}": 1})
    assert dataset.card["build"]["shards_written"] < len(origins)
    assert str(replayed.id) in {row["example_id"] for row in read(session, dataset.id, "train")}
    assert published(session, recipe) == (dataset, False)


def test_buckets_too_full_to_compare_are_warned_of_without_their_text(session):
    add_example(session, "a", "b")
    session.flush()
    hot = [{"kind": "prompt", "n_texts": 900, "sample": "You are a helpful"}]
    dataset, _ = published(session, counts={"hot": hot, "new": 1})
    assert dataset.card["build"]["hot"] == 1
    assert any("not all were compared" in warning for warning in dataset.card["warnings"])
    assert "You are a helpful" not in str(dataset.card)
