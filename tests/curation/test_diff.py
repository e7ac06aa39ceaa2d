"""Comparing versions: rows that came, went, moved or changed, and nothing else opened."""

import pytest
from published import add_example, add_pair, published

import curation.publish.diff
from curation.publish.diff import diff
from curation.publish.rows import row_hash
from curation.publish.shards import MEAN_ROWS
from curation.recipe import CurationRecipe
from curation.tables import DROPPED
from foundation.errors import BadInput
from foundation.ids import new_id


def test_every_kind_of_change_is_told_apart(session):
    stays, goes, moves, changes = (add_example(session, f"{i}", "a") for i in range(4))
    session.flush()
    old, _ = published(session)
    comes = add_example(session, "5", "a", task_type="new")
    goes.status, goes.drop_reason = DROPPED, "near_duplicate"
    moves.split = "test"
    changes.answer = "better"
    changes.row_hash = row_hash(changes.model_dump())
    session.flush()
    new, _ = published(session, CurationRecipe(seed=1))
    found = diff(session, old.id, new.id)
    assert found.added == [comes.id]
    assert found.removed == [goes.id]
    assert found.moved == [moves.id]
    assert found.changed == [changes.id]
    said = found.as_json()
    assert said["recipe"] == {"seed": [0, 1]}
    assert said["task_types"] == {"new": [0, 1], "untyped": [4, 3]}
    assert said["dropped_by_reason"] == {"near_duplicate": [0, 1]}
    assert str(stays.id) not in str(said["rows"])


def test_shards_that_both_have_are_not_opened(session, monkeypatch):
    for i in range(3 * MEAN_ROWS):
        add_example(session, f"{i}", "a", id=new_id())
    session.flush()
    old, _ = published(session)
    comes = add_example(session, "one more", "a")
    session.flush()
    new, _ = published(session)
    opened = []
    honest = curation.publish.diff.path_of
    monkeypatch.setattr(
        curation.publish.diff,
        "path_of",
        lambda shard: (opened.append(shard.shard), honest(shard))[1],
    )
    found = diff(session, old.id, new.id)
    assert (found.added, found.removed, found.changed) == ([comes.id], [], [])
    assert len(opened) <= 2
    assert found.shared_shards >= found.n_shards - 1


def test_a_version_does_not_differ_from_itself(session):
    add_example(session, "a", "b")
    session.flush()
    dataset, _ = published(session)
    found = diff(session, dataset.id, dataset.id)
    assert [found.added, found.removed, found.changed, found.moved] == [[], [], [], []]


def test_kinds_are_not_compared(session):
    add_pair(session, "a", "b", "c")
    pairs, _ = published(session, kind="preference")
    examples, _ = published(session)
    with pytest.raises(BadInput, match="kind"):
        diff(session, pairs.id, examples.id)
