"""Reviews and builds together: what people say decides, until they take it back."""

import pytest
from sqlmodel import select

from curation.build import build_dataset
from curation.recipe import CurationRecipe
from curation.review.drawn import random_share
from curation.review.labels import label, undo
from curation.review.leases import next_item
from curation.review.plan import ReviewPlan
from curation.review.queue import fill_queue
from curation.tables import Example, ReviewItem, TextEdge
from foundation.ids import new_id

ANSWERS = [
    "def area(width, height):\n    return width * height\n",
    "import json\n\n\ndef load(path):\n    return json.loads(path.read_text(encoding='utf-8'))\n",
    "SELECT name, count(*) FROM orders GROUP BY name ORDER BY 2 DESC LIMIT 10",
    "for line in sys.stdin:\n    print(line.rstrip()[::-1])\n",
]


@pytest.fixture
def built(session, log):
    for number, answer in enumerate(ANSWERS):
        log.call(f"Task number {number}: write what {answer[:9]} needs", answer, passed=True)
    session.commit()
    return build_dataset("coder", CurationRecipe())


def state_of(session, example_id):
    session.expire_all()
    one = session.get_one(Example, example_id)
    return one.status, one.reviewed, one.answer


def rebuilt(session):
    session.commit()
    return build_dataset("coder", CurationRecipe())


def test_a_build_asks_reviewers_for_a_tenth(session, built):
    assert random_share(session, built).holds
    assert next_item(session, "ann", "coder").reason in ("random", "uncertainty", "diversity")


def test_a_rejected_example_leaves_the_next_version_and_comes_back_when_undone(session, built):
    subject = next_item(session, "ann", "coder")
    label(session, subject.id, "ann", "reject", reason="not what was asked")
    second = rebuilt(session)
    status, reviewed, _ = state_of(session, subject.subject_id)
    assert (status, reviewed) == ("dropped", "rejected")
    total = second.n_train + second.n_validation + second.n_test
    assert (second.number, total) == (built.number + 1, len(ANSWERS) - 1)
    undo(session, "ann")
    third = rebuilt(session)
    assert state_of(session, subject.subject_id)[:2] == ("kept", None)
    assert third.content_hash == built.content_hash


def test_an_edit_is_learned_and_undone(session, built):
    subject = next_item(session, "ann", "coder")
    before = state_of(session, subject.subject_id)[2]
    label(session, subject.id, "ann", "edit", {"answer": "# Better\n" + before})
    rebuilt(session)
    assert state_of(session, subject.subject_id) == ("kept", "edited", "# Better\n" + before)
    undo(session, "ann")
    rebuilt(session)
    assert state_of(session, subject.subject_id) == ("kept", None, before)


def test_relabelling_reaches_the_example(session, built):
    subject = next_item(session, "ann", "coder")
    value = {"task_type": "sorting", "difficulty": "hard"}
    label(session, subject.id, "ann", "relabel", value)
    rebuilt(session)
    session.expire_all()
    one = session.get_one(Example, subject.subject_id)
    assert (one.task_type, one.difficulty, one.needs_judging) == ("sorting", "hard", False)


def test_what_people_accepted_is_kept_although_nothing_ran_it(session, log):
    log.call("Say hello to the world", "Hello, world, and good morning to you.")
    session.commit()
    build_dataset("coder", CurationRecipe())
    one = session.exec(select(Example)).one()
    assert one.status == "dropped"
    fill_queue(session, "coder", ReviewPlan())
    subject = ReviewItem(role="coder", subject_id=one.id, reason="filter")
    session.add(subject)
    session.flush()
    label(session, subject.id, "ann", "accept")
    rebuilt(session)
    assert state_of(session, one.id)[:2] == ("kept", "accepted")


def test_a_likeness_that_people_confirm_drops_the_lesser(session, built):
    one, other, *_ = session.exec(select(Example).order_by(Example.text_id)).all()
    session.add(TextEdge(low=one.text_id, high=other.text_id, kind="semantic", similarity=0.97))
    detail = {"low": one.text_id, "high": other.text_id, "first": str(one.id)}
    subject = ReviewItem(
        role="coder", kind="likeness", subject_id=new_id(), reason="semantic", other_id=other.id,
        detail=detail,
    )  # fmt: skip
    session.add(subject)
    session.flush()
    label(session, subject.id, "ann", "accept")
    rebuilt(session)
    states = {state_of(session, example_id)[0] for example_id in (one.id, other.id)}
    assert states == {"kept", "dropped"}
    undo(session, "ann")
    again = rebuilt(session)
    assert {state_of(session, example_id)[0] for example_id in (one.id, other.id)} == {"kept"}
    assert again.content_hash == built.content_hash
