"""An increment holds what a model has not learned yet, and nothing that it must not learn."""

import pytest
from published import add_example, published
from sqlmodel import Session, select

from collector.erase import Subject
from curation.erase import erase
from curation.export import load_rows, read
from curation.publish.increment import publish_increment
from curation.tables import Dataset
from foundation.errors import NotFound
from foundation.ids import new_id


def answers(session: Session, dataset: Dataset, split: str = "train") -> list[str]:
    return sorted(r["completion"][0]["content"] for r in read(session, dataset.id, split))


def test_only_what_is_new_or_corrected_is_in_it(session):
    for n in range(3):
        add_example(session, f"p{n}", f"a{n}")
    first, _ = published(session)
    add_example(session, "new", "b")
    example = add_example(session, "wrong", "bad")
    second, _ = published(session)
    increment = publish_increment(session, second.id, [first.id])
    assert answers(session, increment) == ["b", "bad"]
    assert (increment.variant, increment.number, increment.n_train) == ("increment", 1, 2)
    assert increment.card["increment_of"] == str(second.id)
    example.answer, example.corrected, example.row_hash = "right", True, "corrected"
    session.add(example)
    third, _ = published(session)
    again = publish_increment(session, third.id, [first.id, increment.id])
    assert answers(session, again) == ["right"]
    assert (again.number, again.card["corrected"]) == (2, 1)


def test_the_same_rows_are_the_same_increment(session):
    add_example(session, "p", "a")
    whole, _ = published(session)
    first = publish_increment(session, whole.id, [])
    assert publish_increment(session, whole.id, []).id == first.id
    assert publish_increment(session, whole.id, [first.id]) is None
    assert publish_increment(session, whole.id, [whole.id]) is None
    assert len(session.exec(select(Dataset)).all()) == 2
    with pytest.raises(NotFound):
        publish_increment(session, new_id(), [])


def test_what_is_held_out_stays_so(session):
    add_example(session, "p", "learned")
    for split in ("validation", "test"):
        add_example(session, split, split, split=split)
    whole, _ = published(session)
    increment = publish_increment(session, whole.id, [])
    assert answers(session, increment) == ["learned"]
    assert [load_rows(session, increment.id, s) for s in ("validation", "test")] == [[], []]


def test_erasure_reaches_it(session):
    add_example(session, "p", "a")
    gone = add_example(session, "q", "b")
    whole, _ = published(session)
    increment = publish_increment(session, whole.id, [])
    session.flush()
    erase(session, Subject("interaction", (str(gone.interaction_id),)), actor="person")
    assert answers(session, increment) == ["a"]
