"""The queue: the guaranteed share, what is picked, leases between threads, drafts, filters."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from review_rows import dataset, example, examples, item, items, likeness, pair
from sqlalchemy import Uuid, bindparam, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Session, col, select

from curation.review.drawn import random_share
from curation.review.draws import SAMPLE, draw, draw_in_sql
from curation.review.filters import Filters, add_matching
from curation.review.labels import label, skip, undo
from curation.review.leases import _TAKE, draft_of, next_item, release, save_draft
from curation.review.plan import ReviewPlan
from curation.review.queue import assign, fill_queue, withdraw
from curation.tables import Example, ReviewDraft, ReviewItem, ReviewLabel
from foundation.database import get_engine, session_scope
from foundation.errors import BadInput, Conflict, NotFound
from foundation.ids import new_id
from foundation.tables import Decision, now

QUIET = ReviewPlan(uncertainty_share=0, disagreement_share=0, diversity_share=0, double_share=0)


def reasons(session: Session) -> Counter[str]:
    return Counter(session.exec(select(ReviewItem.reason)).all())


# What comes in


def test_python_and_sql_draw_alike(session):
    ids = [str(new_id()) for _ in range(200)]
    drawn = session.execute(
        text(f"SELECT {draw_in_sql(SAMPLE, 'id')} FROM unnest(CAST(:ids AS text[])) AS id"),
        {"ids": ids},
    ).scalars()
    assert list(drawn) == [draw(SAMPLE, one) for one in ids]


def test_a_tenth_of_every_dataset_is_drawn_and_proven(session):
    rows = examples(session, 400)
    first = dataset(session, rows[:300])
    assert not random_share(session, first).holds
    counts = fill_queue(session, "coder", QUIET)
    proof = random_share(session, first)
    assert proof.holds
    assert counts["random"] == proof.n_drawn >= 30
    below = {one.id for one in rows[:300] if draw(SAMPLE, one.id) < 0.1}
    queued = set(session.exec(select(ReviewItem.subject_id)).all())
    assert below <= queued
    assert len(queued) == max(30, len(below))

    second = dataset(session, rows, number=2)
    fill_queue(session, "coder", QUIET)
    assert random_share(session, second).holds
    assert queued <= set(session.exec(select(ReviewItem.subject_id)).all())


def test_a_small_dataset_has_its_share_too(session):
    made = dataset(session, examples(session, 3))
    fill_queue(session, "coder", QUIET)
    assert random_share(session, made).n_drawn >= 1
    assert random_share(session, made).holds


def test_filling_again_adds_nothing(session):
    dataset(session, examples(session, 100))
    first = fill_queue(session, "coder")
    assert first["uncertainty"] == 3
    before = reasons(session)
    assert fill_queue(session, "coder") == {"random": 0}
    assert reasons(session) == before
    assert len(session.exec(select(Decision).where(Decision.kind == "review.fill")).all()) == 1


def test_a_picked_example_that_is_drawn_later_stays_one_item(session):
    rows = examples(session, 50)
    waiting = item(session, rows[0].id, reason="uncertainty")
    dataset(session, rows)
    fill_queue(session, "coder", ReviewPlan(random_share=1.0))
    session.refresh(waiting)
    assert waiting.reason == "random"
    assert reasons(session) == {"random": 50}


def test_mixed_in_rows_are_not_drawn(session):
    made = dataset(session, examples(session, 20), origin="general:x")
    assert fill_queue(session, "coder", QUIET)["random"] == 0
    assert random_share(session, made).n_rows == 0


def test_without_a_dataset_nothing_is_queued(session):
    assert fill_queue(session, "coder") == {}


def test_what_is_picked_comes_in_once_and_for_its_reason(session):
    sure = examples(session, 60)
    unsure = [example(session, f"maybe {word}", score=0.52) for word in ("red", "green", "blue")]
    torn = [example(session, f"perhaps {w}", disagreement=0.8) for w in ("oak", "elm")]
    strange = example(session, "def zebra(): yield from quagga", prompt="Write a generator")
    dataset(session, [*sure, *unsure, *torn, strange])
    plan = ReviewPlan(random_share=0.0, diversity_share=0.2)
    counts = fill_queue(session, "coder", plan)
    assert counts["by_model"] is False
    by_reason = {
        reason: {i.subject_id for i in session.exec(select(ReviewItem)) if i.reason == reason}
        for reason in ("uncertainty", "disagreement", "diversity")
    }
    assert len(by_reason["uncertainty"]) == 2
    assert by_reason["uncertainty"] < {one.id for one in unsure}
    assert {one.id for one in torn} == by_reason["disagreement"]
    assert strange.id in by_reason["diversity"]
    assert sum(map(len, by_reason.values())) == len(set().union(*by_reason.values()))


def test_borderline_drops_may_be_picked_and_others_not(session):
    low = example(session, "almost", status="dropped", drop_reason="low_score", score=0.49)
    repeat = example(session, "again", status="dropped", drop_reason="near_duplicate", score=0.5)
    dataset(session, examples(session, 5))
    fill_queue(session, "coder", ReviewPlan(random_share=0.0))
    queued = set(session.exec(select(ReviewItem.subject_id)).all())
    assert low.id in queued
    assert repeat.id not in queued


def test_little_is_added_to_a_queue_that_nobody_works_off(session):
    items(session, 3, reason="uncertainty")
    dataset(session, examples(session, 100))
    counts = fill_queue(session, "coder", ReviewPlan(max_waiting=3))
    assert counts["random"] >= 10
    assert "uncertainty" not in counts


def test_pairs_and_likenesses_are_queued(session):
    made, better, worse = pair(session)
    person, *_ = pair(session, basis="human")
    edge, one, other = likeness(session)
    dataset(session, [better, worse, one, other])
    counts = fill_queue(session, "coder", ReviewPlan(random_share=0, pair_share=1.0))
    assert (counts["pairs"], counts["likenesses"]) == (1, 1)
    by_kind = {i.kind: i for i in session.exec(select(ReviewItem)) if i.kind != "example"}
    assert by_kind["pair"].subject_id == made.id
    assert by_kind["likeness"].other_id == other.id
    assert by_kind["likeness"].detail["first"] == str(one.id)


def test_some_items_need_two_labels_by_hash(session):
    dataset(session, examples(session, 200))
    fill_queue(session, "coder", ReviewPlan(random_share=1.0, double_share=0.25))
    n_wanted = Counter(session.exec(select(ReviewItem.n_wanted)).all())
    assert n_wanted[2] / 200 == pytest.approx(0.25, abs=0.1)


def test_filters_bring_items_forward(session):
    rows = examples(session, 20, task_type="refactor")
    other = example(session, "elsewhere", task_type="fix", score=0.2)
    waiting = item(session, rows[0].id, priority=0.4)
    settled = item(session, rows[1].id, status="done")
    n = add_matching(session, "coder", Filters(task_type="refactor"), assigned_to="ann", limit=50)
    assert n == 19
    session.refresh(waiting)
    session.refresh(settled)
    assert waiting.priority == pytest.approx(1.4)
    assert (waiting.reason, waiting.assigned_to, settled.status) == ("random", "ann", "done")
    assert add_matching(session, "coder", Filters(max_score=0.3, contains="ELSE")) == 1
    assert next_item(session, "bob", "coder").subject_id == other.id
    with pytest.raises(BadInput, match="review filter limit"):
        add_matching(session, "coder", Filters(), limit=0)
    with pytest.raises(BadInput, match="review filter"):
        Filters.from_json({"colour": "red"})


@pytest.mark.parametrize(
    "values", [{"random_share": 1.5}, {"pool": 0}, {"at_most": True}, {"variant": "x"}, {"hue": 1}]
)
def test_a_plan_is_checked(values):
    with pytest.raises(BadInput, match="review plan"):
        ReviewPlan.from_json(values)


# Leases


def test_the_most_important_comes_first_and_stays_until_it_is_labelled(session):
    low, high = items(session, 2)
    low.priority, high.priority = 0.1, 0.9
    session.flush()
    assert next_item(session, "ann").id == high.id
    assert next_item(session, "ann").id == high.id
    assert next_item(session, "ann", besides=[high.id]).id == low.id
    assert next_item(session, "bob") is None
    release(session, low.id, "ann")
    assert next_item(session, "bob").id == low.id
    release(session, low.id, "ann")
    assert next_item(session, "cec") is None


def test_what_became_contaminated_or_a_repeat_waits_until_it_is_back(session):
    first, second = items(session, 2)
    first.priority, second.priority = 0.9, 0.1
    gone = session.get(Example, first.subject_id)
    gone.status, gone.drop_reason = "dropped", "contaminated"
    session.flush()
    assert next_item(session, "ann").id == second.id
    gone.status, gone.drop_reason = "kept", None
    session.flush()
    assert next_item(session, "bob").id == first.id


def test_roles_and_kinds_are_kept_apart(session):
    (coders,) = items(session, 1)
    tests = item(session, example(session, role="tester").id, role="tester", priority=2.0)
    made, *_ = pair(session)
    compared = item(session, made.id, kind="pair", priority=0.0)
    assert next_item(session, "ann").id == tests.id
    assert next_item(session, "ann", "coder").id == coders.id
    assert next_item(session, "ann", "coder", kind="pair").id == compared.id
    assert next_item(session, "bob", "reviewer") is None


def test_two_reviewers_never_hold_the_same_item(database):
    with session_scope() as session:
        items(session, 40)
    start = Barrier(8)

    def work(number: int) -> list[object]:
        taken = []
        start.wait()
        while True:
            with session_scope() as session:
                found = next_item(session, f"r{number}", "coder", besides=taken)
                if found is None:
                    return taken
                taken.append(found.id)

    with ThreadPoolExecutor(8) as threads:
        taken = [one for ids in threads.map(work, range(8)) for one in ids]
    assert len(taken) == len(set(taken)) == 40


def test_a_queue_is_worked_off_by_many_at_once_each_item_by_as_many_as_it_needs(database):
    with session_scope() as session:
        items(session, 15)
        twice = {one.id for one in items(session, 15, n_wanted=2)}
    start = Barrier(6)

    def work(name: str) -> None:
        start.wait()
        for _ in range(100):
            with session_scope() as session:
                found = next_item(session, name, "coder")
                if found is None:
                    return
                label(session, found.id, name, "accept")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, [f"r{i}" for i in range(6)]))
    with session_scope() as session:
        assert set(session.exec(select(ReviewItem.status)).all()) <= {"open", "done"}
        said = session.exec(select(ReviewLabel)).all()
    by_item = Counter(one.item_id for one in said)
    assert len({(one.item_id, one.reviewer) for one in said}) == len(said)
    assert all(n <= (2 if one in twice else 1) for one, n in by_item.items())
    assert len(by_item) == 30


def expire(session: Session) -> None:
    session.execute(update(ReviewItem).values(leased_until=now() - timedelta(seconds=1)))
    session.expire_all()


def test_an_expired_lease_comes_back_and_the_late_one_is_told(session):
    (only,) = items(session, 1)
    next_item(session, "ann")
    expire(session)
    assert next_item(session, "bob").id == only.id
    with pytest.raises(Conflict, match="somebody else"):
        label(session, only.id, "ann", "accept")
    assert label(session, only.id, "bob", "accept").reviewer == "bob"


def test_a_late_label_is_taken_while_nobody_else_holds_the_item(session):
    (only,) = items(session, 1)
    next_item(session, "ann")
    expire(session)
    label(session, only.id, "ann", "accept")
    session.refresh(only)
    assert only.status == "done"


def test_undo_after_the_next_lease_gives_the_item_back_to_its_reviewer(session):
    first, second = items(session, 2)
    first.priority, second.priority = 0.9, 0.1
    session.flush()
    label(session, next_item(session, "ann").id, "ann", "accept")
    assert next_item(session, "ann").id == second.id
    assert undo(session, "ann").item_id == first.id
    session.refresh(first)
    assert (first.status, first.leased_by) == ("open", "ann")
    assert next_item(session, "bob") is None
    assert label(session, first.id, "ann", "reject", reason="wrong").action == "reject"


def test_undo_leaves_an_item_with_who_holds_it_now(session):
    (only,) = items(session, 1, n_wanted=2)
    label(session, only.id, "ann", "accept")
    assert next_item(session, "bob").id == only.id
    undo(session, "ann")
    session.refresh(only)
    assert only.leased_by == "bob"
    label(session, only.id, "bob", "accept")
    session.refresh(only)
    assert only.status == "open"
    assert next_item(session, "ann").id == only.id


def test_undo_and_a_second_label_at_once_leave_one_consistent_item(database):
    for _ in range(5):
        with session_scope() as session:
            (only,) = items(session, 1, n_wanted=2)
            label(session, only.id, "ann", "accept")
            assert next_item(session, "bob").id == only.id
        start = Barrier(2)

        def take_back(start: Barrier = start) -> None:
            start.wait()
            with session_scope() as session:
                undo(session, "ann")

        def say(start: Barrier = start, subject: object = only.id) -> None:
            start.wait()
            with session_scope() as session:
                label(session, subject, "bob", "accept")

        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(take_back), threads.submit(say)]:
                done.result()
        with session_scope() as session:
            assert session.get_one(ReviewItem, only.id).status == "open"


def test_two_undos_at_once_take_back_one_label_each(database):
    with session_scope() as session:
        for one in items(session, 2):
            label(session, one.id, "ann", "accept")
    start = Barrier(3)

    def take_back(_: int) -> str:
        start.wait()
        try:
            with session_scope() as session:
                return str(undo(session, "ann").id)
        except NotFound:
            return "nothing"

    with ThreadPoolExecutor(3) as threads:
        said = list(threads.map(take_back, range(3)))
    undone = [one for one in said if one != "nothing"]
    assert len(undone) == len(set(undone))
    with session_scope() as session:
        still = select(ReviewLabel).where(col(ReviewLabel.undone_at).is_(None))
        assert len(session.exec(still).all()) == 2 - len(undone)


def test_skipped_items_go_to_others_and_can_be_taken_back(session):
    (only,) = items(session, 1)
    skip(session, only.id, "ann", "not my language")
    assert next_item(session, "ann") is None
    undo(session, "ann")
    assert next_item(session, "ann").id == only.id
    skip(session, only.id, "ann")
    assert next_item(session, "bob").id == only.id


def test_drafts_are_kept_scrubbed_renew_the_lease_and_go_with_the_label(session):
    (only,) = items(session, 1)
    until = next_item(session, "ann", lease_s=60).leased_until
    save_draft(session, only.id, "ann", {"answer": "mail anna.berg@example.org"})
    session.refresh(only)
    assert only.leased_until > until
    assert draft_of(session, only.id, "ann") == {"answer": "mail <EMAIL_1>"}
    save_draft(session, only.id, "ann", {"answer": "better"})
    assert draft_of(session, only.id, "ann") == {"answer": "better"}
    assert draft_of(session, only.id, "bob") is None
    with pytest.raises(Conflict):
        save_draft(session, only.id, "bob", {})
    label(session, only.id, "ann", "accept")
    assert session.exec(select(ReviewDraft)).all() == []


@pytest.mark.parametrize("said", ["accept", "skip"])
def test_a_draft_behind_its_own_label_keeps_nobody_waiting(session, said):
    """The last draft of a card may arrive after its label, which came by another connection."""
    (only,) = items(session, 1, n_wanted=2)
    next_item(session, "ann")
    label(session, only.id, "ann", said)
    with pytest.raises(Conflict, match="labelled by you"):
        save_draft(session, only.id, "ann", {"reason": "as I was typing"})
    assert draft_of(session, only.id, "ann") is None
    assert next_item(session, "bob").id == only.id


def test_assigned_and_withdrawn_items(session):
    mine, gone = items(session, 2)
    assert assign(session, [mine.id], "ann") == 1
    assert withdraw(session, [gone.id]) == 1
    assert next_item(session, "bob") is None
    with pytest.raises(Conflict, match="assigned"):
        label(session, mine.id, "bob", "accept")
    with pytest.raises(Conflict, match="withdrawn"):
        label(session, gone.id, "ann", "accept")
    assert next_item(session, "ann").id == mine.id
    assert assign(session, [mine.id], None) == 1


def test_erased_examples_leave_the_queue(session):
    first, second = items(session, 2)
    first.priority, second.priority = 0.9, 0.1
    session.flush()
    session.execute(text("DELETE FROM example WHERE id = :id"), params={"id": first.subject_id})
    assert next_item(session, "ann").id == second.id
    session.refresh(first)
    assert first.status == "withdrawn"


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\0b"])
def test_reviewers_have_names(session, name):
    with pytest.raises(BadInput, match="reviewer"):
        next_item(session, name)


def test_a_personal_name_is_kept_as_a_hash_that_stays_the_same(session):
    (only,) = items(session, 1)
    next_item(session, "anna.berg@example.org")
    said = label(session, only.id, "anna.berg@example.org", "accept")
    assert said.reviewer.startswith("actor-")
    assert undo(session, "anna.berg@example.org").id == said.id


def test_the_next_item_is_found_by_the_index(database):
    """However long the queue is: no sort, no scan of the table."""
    with session_scope() as session:
        session.execute(
            text(
                """
                INSERT INTO review_item
                    (id, role, kind, subject_id, reason, detail, priority, n_wanted, status,
                     created_at)
                SELECT gen_random_uuid(), 'coder', 'example', gen_random_uuid(), 'random', '{}',
                    random(), 1, 'open', now()
                FROM generate_series(1, 20000)
                """
            )
        )
    asked = {"role": "coder", "reviewer": "ann", "kind": None, "besides": [], "lease_s": 1}
    asked["gone"] = ["contaminated"]
    with get_engine().connect() as connection:
        connection.execute(text("ANALYZE review_item"))
        explained = text(f"EXPLAIN {_TAKE.text}").bindparams(
            bindparam("besides", type_=ARRAY(Uuid))
        )
        lines = "\n".join(connection.execute(explained, asked).scalars())
    assert "ix_review_item_open" in lines
    assert "Sort" not in lines
    assert "Seq Scan on review_item" not in lines
